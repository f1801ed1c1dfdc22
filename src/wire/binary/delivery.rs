//! One delivered message, as it stands in pushes and in answers to fetch.

use std::sync::Arc;

use super::fields::{BodyError, Fields, put_short};
use crate::base::command::Delivery;

/// Bytes of a delivery without its content.
pub(super) const DELIVERY_BYTES_MIN: usize = 4 + 16 + 8 + 4 + 8 + 1 + 4;
/// The same with an empty name in front.
pub(super) const NAMED_BYTES_MIN: usize = 2 + DELIVERY_BYTES_MIN;

pub(super) fn put_delivery(out: &mut Vec<u8>, delivery: &Delivery) {
    let mut fixed = [0; DELIVERY_BYTES_MIN];
    fixed[..4].copy_from_slice(&delivery.subscription.to_be_bytes());
    fixed[4..20].copy_from_slice(&delivery.id.to_bytes());
    fixed[20..28].copy_from_slice(&delivery.due_ms.to_be_bytes());
    fixed[28..32].copy_from_slice(&delivery.attempt.to_be_bytes());
    fixed[32..40].copy_from_slice(&delivery.offset.to_be_bytes());
    fixed[40] = delivery.priority;
    fixed[41..].copy_from_slice(&(delivery.content.len() as u32).to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(&delivery.content);
}

/// The same with the name of its destination in front.
pub(super) fn put_named(out: &mut Vec<u8>, delivery: &Delivery) {
    put_short(out, delivery.destination.as_bytes());
    put_delivery(out, delivery);
}

pub(super) fn decode_named(body: &mut Fields) -> Result<Delivery, BodyError> {
    let destination = body.text::<Arc<str>>()?;
    Ok(Delivery { by_pattern: true, destination, ..decode_delivery(body)? })
}

pub(super) fn decode_delivery(body: &mut Fields) -> Result<Delivery, BodyError> {
    Ok(Delivery {
        subscription: body.u32()?,
        by_pattern: false,
        destination: Arc::default(),
        id: body.id()?,
        due_ms: body.u64()?,
        attempt: body.u32()?,
        offset: body.u64()?,
        priority: body.u8()?,
        content: body.content()?,
    })
}
