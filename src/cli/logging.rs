//! The log goes to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Reads a level (`info`) or levels per module (`info,postdate::front=debug`).
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    // The library takes a misspelt level for the name of a module, and stays silent for ever.
    let is_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        LEVELS.contains(&level.to_ascii_lowercase().as_str())
    };
    let parsed = EnvFilter::builder().parse(text).ok().filter(|_| text.split(',').all(is_level));
    parsed.ok_or_else(|| {
        format!("`{text}` is not a log level; use {}, or module=level", LEVELS.join(", "))
    })
}

/// Starts the log. The filter has been judged before; a second start changes nothing.
pub(crate) fn start(text: &str) -> Result<(), String> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(text)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    // Only a program that embeds this command could have started one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_levels_are_refused() {
        for good in ["info", "OFF", "info,postdate::front=debug"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "loud=", "info,", "postdate::front", "info,x=y"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
