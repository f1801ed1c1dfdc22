//! A batch of messages as a producer sends it.

use bytes::Bytes;
use postdate::base::content::{self, Content};
use postdate::base::message::{MessageBatch, encode_parts};

/// A count (u16) and a batch: each message is read and written again the same, and the check of a
/// content agrees with its reading.
pub fn message_batch(data: &[u8]) -> usize {
    let Some((count, bytes)) = data.split_first_chunk::<2>() else { return 0 };
    let count = usize::from(u16::from_be_bytes(*count));
    let Ok(batch) = MessageBatch::parse(Bytes::copy_from_slice(bytes), count) else { return 0 };
    assert_eq!((batch.count(), &batch.bytes()[..]), (count, bytes));
    let mut written = Vec::new();
    for message in batch.iter() {
        encode_parts(&message, &mut written);
        try_content(message.content);
    }
    let again = MessageBatch::parse(written.into(), count).expect("what was written is a batch");
    assert!(again.iter().eq(batch.iter()), "a batch changed by being written");
    assert_eq!(batch.iter().count(), count);
    count
}

fn try_content(bytes: &[u8]) {
    match (content::check(bytes), Content::decode(bytes)) {
        (Ok(body_at), Ok(content)) => {
            assert_eq!(content.body, bytes[body_at..]);
            assert_eq!(content::body(bytes), content.body);
            let mut written = Vec::new();
            content.encode(&mut written).expect("a checked content is within its limits");
            assert_eq!(written, bytes);
        }
        (Err(checked), Err(read)) => {
            assert_eq!(checked, read);
            assert_eq!(content::body(bytes), bytes);
        }
        (checked, read) => panic!("checked: {checked:?}, read: {read:?}"),
    }
}
