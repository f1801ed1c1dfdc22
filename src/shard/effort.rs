//! What a request costs a step, in units of one small request.
//!
//! Events bound a step by their bytes, but looking costs too: without this a client could have
//! thousands of its lists looked up between two firings.

use crate::base::command::{Command, Part};
use crate::base::limits;

/// Items of a batch that cost as much as a small request.
const ITEMS: usize = 16;
/// A message that is looked up in the store costs as much as so many small requests.
pub(super) const READ: usize = 8;
/// A list looks at up to [`limits::LIST_SCAN_MAX`] messages, statistics at every destination, a
/// purge at every message: 1 ms or more, so a step has room for a few.
const LOOK: usize = limits::STEP_REQUESTS_MAX / 4;
/// A page of many small things.
const PAGE: usize = 128;

/// The cost of a command.
pub(super) fn of(command: &Command) -> usize {
    let items = match command {
        Command::Produce { batch, .. } => batch.count(),
        // Each is written with its rule, and the calendar may be asked.
        Command::Repeat { batch, .. } => return PAGE + batch.count() / ITEMS,
        Command::Transaction { parts } => {
            let messages = |part: &Part| part.batch().map_or(0, |(_, batch)| batch.count());
            parts.iter().map(|part| ITEMS + messages(part) + part.ids().len()).sum()
        }
        Command::Query { ids }
        | Command::Cancel { ids }
        | Command::Acknowledge { ids, .. }
        | Command::Reject { ids, .. } => ids.len(),
        Command::Reschedule { items } => items.len(),
        Command::List { .. } | Command::PurgeDestination { .. } | Command::Stats => return LOOK,
        Command::Fetch { .. } | Command::ListDestinations { .. } => return PAGE,
        Command::Subscribe(_)
        | Command::Unsubscribe { .. }
        | Command::CreateDestination { .. }
        | Command::DeleteDestination { .. }
        | Command::DescribeDestination { .. }
        | Command::PauseDestination { .. }
        | Command::LimitDestination { .. }
        | Command::Backup { .. } => 0,
    };
    1 + items / ITEMS
}
