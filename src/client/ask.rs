//! One request, one answer: what all requests but produce and subscribe are made of.

use std::time::Duration;

use tokio::sync::oneshot;

use super::error::Error;
use super::queue::{Ask, Entry, Shared};
use crate::base::command::{Answer, Command};
use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::wire::binary::Reply;

/// Asks one thing and waits for the answer; a failure of the request is an error.
pub(super) async fn ask(
    shared: &Shared,
    command: Command,
    repeatable: bool,
) -> Result<Reply, Error> {
    let bytes = match &command {
        Command::Query { ids }
        | Command::Cancel { ids }
        | Command::Acknowledge { ids, .. }
        | Command::Reject { ids, .. } => ids.len() * 16,
        Command::Reschedule { items } => items.len() * 25,
        Command::Repeat { .. } | Command::Transaction { .. } => {
            command.batches().map(|(_, batch)| batch.bytes().len()).sum()
        }
        _ => 0,
    };
    let room = Some(shared.room(bytes).await?);
    let (sink, answer) = oneshot::channel();
    shared.push(Entry::Ask(Ask { command, repeatable, sink, room }))?;
    match answered(answer).await? {
        Reply::Answer(Answer::Failed(error)) => Err(Error::Refused(error)),
        reply => Ok(reply),
    }
}

/// Asks about many items, in as many requests as the limit of a batch makes of them.
pub(super) async fn split_ids<T: Clone, R>(
    shared: &Shared,
    items: &[T],
    repeatable: bool,
    command: impl Fn(Vec<T>) -> Command,
    results: impl Fn(Answer) -> Option<Vec<R>>,
) -> Result<Vec<R>, Error> {
    let mut all = Vec::with_capacity(items.len());
    for chunk in items.chunks(limits::BATCH_ITEMS_MAX) {
        let reply = ask(shared, command(chunk.to_vec()), repeatable).await?;
        let Reply::Answer(answer) = reply else { return Err(unexpected(&reply)) };
        match results(answer) {
            Some(results) if results.len() == chunk.len() => all.extend(results),
            _ => return Err(Error::Protocol("not one result an item".to_owned())),
        }
    }
    Ok(all)
}

/// A longer name would not even travel.
pub(super) fn check_length(name: &str) -> Result<(), Error> {
    // Dead letters of the longest name have a legal name too.
    let counted = name.strip_prefix("/dlq").unwrap_or(name).len();
    let max = limits::DESTINATION_BYTES_MAX;
    if counted > max {
        let text = format!("the name has {counted} bytes; at most {max} are allowed");
        return Err(Error::Refused(ClientError::new(Code::BadDestination, text)));
    }
    Ok(())
}

/// Rounded up, so that nothing is early.
pub(super) fn whole_ms(duration: Duration) -> i64 {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Waits for the answer of the connection's task.
pub(super) async fn answered<T>(answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
    // No answer at all: the task of the connection was stopped with its runtime.
    answer.await.unwrap_or(Err(Error::OutcomeUnknown))
}

/// An answer of another kind than the request's.
pub(super) fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Answer(Answer::Failed(error)) => Error::Refused(error.clone()),
        _ => Error::Protocol("an answer of another kind than the request".to_owned()),
    }
}
