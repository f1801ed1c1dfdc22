//! What the operating system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files of the server itself: journal, lock, log, runtime.
const OWN_FILES: u64 = 64;

/// Raises the number of open files to what is allowed; says so when it is too few.
pub(in crate::cli) fn raise_open_files(max_connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let wanted = max_connections as u64 + OWN_FILES;
    if let Some(now) = now.filter(|now| *now < wanted) {
        tracing::warn!(
            open_files = now,
            max_connections,
            "fewer files may be open than max_connections needs; raise the limit (ulimit -n) or \
             lower max_connections"
        );
    }
}
