//! `postdate destinations`

use clap::Args;

use crate::base::command::DestinationInfo;
use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{DestinationLine, Out, show_limits};

#[derive(Debug, Args)]
#[command(after_help = "\
JSON: {name, kind, scheduled, ready, in_flight, consumers, next_offset, unread, paused,
max_messages, max_age_ms}, one object a line; limits of 0 are none

Examples:
  postdate destinations
  postdate destinations --json | jq 'select(.ready > 1000) | .name'")]
pub(super) struct Destinations {
    #[command(flatten)]
    server: Server,
}

impl Destinations {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("destinations").await?;
        let infos = client.destinations().await?;
        if !out.json {
            out.text(&match infos.as_slice() {
                [] => "there are no destinations; publishing or subscribing makes them".to_owned(),
                _ => row("destination", ["scheduled", "ready", "in flight", "consumers"]),
            })?;
        }
        for info in &infos {
            out.either(&DestinationLine::from(info), || show(info))?;
        }
        Ok(out.flush()?)
    }
}

fn show(info: &DestinationInfo) -> String {
    let numbers = [info.scheduled, info.ready, info.in_flight, info.consumers];
    let texts = numbers.map(|number| number.to_string());
    let mut line = row(&info.name, [&texts[0], &texts[1], &texts[2], &texts[3]]);
    let paused = if info.paused { "paused" } else { "" };
    let unread = if info.unread > 0 { format!("{} unread", info.unread) } else { String::new() };
    for note in [&unread, paused, &show_limits(info)].into_iter().filter(|note| !note.is_empty()) {
        line.push_str("  ");
        line.push_str(note);
    }
    line
}

fn row(name: &str, [scheduled, ready, in_flight, consumers]: [&str; 4]) -> String {
    format!("{name:<40} {scheduled:>10} {ready:>10} {in_flight:>10} {consumers:>10}")
}
