//! A bar on stderr for what takes long. Nothing is drawn where nobody watches.

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::person_watches;

/// A bar of bytes done, or a spinner when the end is not known.
pub(crate) fn bytes(what: &'static str, total: Option<u64>) -> ProgressBar {
    if !person_watches() {
        return ProgressBar::hidden();
    }
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = match total {
        Some(_) => "{prefix} {bar:30} {bytes} of {total_bytes}, {eta} left  {msg}",
        None => "{prefix} {spinner} {bytes}  {msg}",
    };
    styled(bar, what, template)
}

/// A bar of things done.
pub(crate) fn items(what: &'static str, total: u64) -> ProgressBar {
    if !person_watches() {
        return ProgressBar::hidden();
    }
    styled(ProgressBar::new(total), what, "{prefix} {bar:30} {pos} of {len}, {eta} left  {msg}")
}

fn styled(bar: ProgressBar, what: &'static str, template: &str) -> ProgressBar {
    bar.set_prefix(what);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
