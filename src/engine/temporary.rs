//! Temporary queues: each belongs to the session that made it, and goes with it.

use crate::base::error::{ClientError, Code};
use crate::base::event::{Event, EventSink};
use crate::base::id::{DestinationId, SessionId};
use crate::base::limits;

use super::Engine;

impl Engine {
    /// Makes a temporary queue for the session that asks. `by` is `None` for those who only send: they
    /// make none.
    pub(super) fn create_temporary(
        &mut self,
        name: &str,
        by: Option<SessionId>,
        sink: &mut dyn EventSink,
    ) -> Result<DestinationId, ClientError> {
        let owner = by.and_then(|by| self.sessions.get(&by.0));
        let Some(session) = owner else {
            return Err(absent(name));
        };
        if session.temporary.len() >= limits::TEMPORARY_PER_SESSION_MAX {
            let max = limits::TEMPORARY_PER_SESSION_MAX;
            return Err(ClientError::new(
                Code::TooManyDestinations,
                format!("this session has {max} temporary queues; delete some that are not used"),
            ));
        }
        let id = self.create(name, sink)?;
        if let Some(session) = by.and_then(|by| self.sessions.get_mut(&by.0)) {
            session.temporary.push(id);
        }
        if let Some(destination) = self.destination_mut(id) {
            destination.owner = by;
        }
        Ok(id)
    }

    /// Refuses a session what only the owner of a temporary queue may do.
    pub(super) fn check_owner(
        &self,
        id: DestinationId,
        session: SessionId,
    ) -> Result<(), ClientError> {
        match self.destination(id) {
            Some(d) if d.kind.is_owned() && d.owner != Some(session) => Err(ClientError::new(
                Code::NotYours,
                format!("{} belongs to another session; only that one may subscribe to it", d.name),
            )),
            _ => Ok(()),
        }
    }

    /// Deletes a destination and ends what is attached to it.
    pub(super) fn delete(&mut self, id: DestinationId, sink: &mut dyn EventSink) {
        self.end_subscriptions_of(id);
        let owner = self.destination(id).and_then(|destination| destination.owner);
        if let Some(session) = owner.and_then(|owner| self.sessions.get_mut(&owner.0)) {
            session.temporary.retain(|own| *own != id);
        }
        self.emit(&Event::DestinationDeleted { destination: id }, sink);
    }

    /// Deletes the temporary queues that were there at the start: no session lives that could own them.
    /// To be called in each step, after firing.
    pub fn delete_ownerless(&mut self, sink: &mut dyn EventSink) {
        for id in std::mem::take(&mut self.ownerless) {
            self.delete(id, sink);
        }
    }
}

/// There is no such temporary queue, and who only sends does not make one.
pub(super) fn absent(name: &str) -> ClientError {
    let why = format!("there is no destination {name}; its owner makes it by subscribing to it");
    ClientError::new(Code::DestinationNotFound, why)
}
