//! The table of settings.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Config, Input, Mode};
use crate::base::config::RecoveryPolicy;
use crate::base::limits;
use crate::base::time::DELAY_MAX_MS;
use crate::cli::time::{duration_ms, show_duration};

const MIB: u64 = 1024 * 1024;

/// One setting.
pub(super) struct Setting {
    /// Its name in a file, behind that of its section and a point if it has one. The environment has it
    /// in capitals behind `POSTDATE_`, with `_` for the point. Sections come last.
    pub(super) name: &'static str,
    /// Meaning, unit, default, bounds.
    pub(super) doc: &'static str,
    /// Judges a value and takes it over.
    pub(super) set: fn(&mut Config, Input<'_>) -> Result<(), String>,
    /// The value as TOML.
    pub(super) show: fn(&Config) -> String,
}

/// Every setting, in the order of the sample file.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "data_dir",
        doc: "Directory that holds the messages; made when it does not exist. One server at a time.\n\
              Default: \"./postdate-data\". A path that is not empty.",
        set: |config, input| {
            config.data_dir = text(input, "a path")?.into();
            Ok(())
        },
        show: |config| quoted(&config.data_dir.to_string_lossy()),
    },
    Setting {
        name: "listen",
        doc: "Address of the binary protocol, host and port; port 0 takes a free one. Only loopback is\n\
              taken, unless serve is given --insecure: there is no authentication yet.\n\
              Default: \"127.0.0.1:7700\".",
        set: |config, input| {
            config.listen = address(text(input, "an address")?)?;
            Ok(())
        },
        show: |config| quoted(&config.listen),
    },
    Setting {
        name: "durability",
        doc: "What an acknowledgement to a producer survives.\n\
              \"always\": synced before it; survives a crash of the process, of the system, and a power loss.\n\
              \"interval\": written before it, synced every sync_interval_ms; survives a crash of the process;\n\
              a crash of the system or a power loss may lose that much time.\n\
              \"os\": written before it, synced when the system likes; survives a crash of the process only.\n\
              Default: \"always\".",
        set: |config, input| {
            let value = text(input, "one of always, interval, os")?;
            let found = Mode::ALL.into_iter().find(|(word, _)| *word == value);
            let (_, mode) =
                found.ok_or_else(|| format!("`{value}` is not one of always, interval, os"))?;
            config.durability = mode;
            Ok(())
        },
        show: |config| quoted(config.durability.word()),
    },
    Setting {
        name: "sync_interval_ms",
        doc: "Time between syncs when durability is \"interval\", ms.\n\
              Default: 1000. Bounds: 1 to 60000.",
        set: |config, input| {
            config.sync_interval_ms = integer(input, 1..=60_000)?;
            Ok(())
        },
        show: |config| config.sync_interval_ms.to_string(),
    },
    Setting {
        name: "recovery",
        doc: "What is done when data is damaged: bytes changed that were durable, or files gone. The journal\n\
              is read at the start, the store when something in it is wanted.\n\
              \"strict\": stops, names the place, and changes nothing.\n\
              \"truncate-tail\": the journal ends at the first damage; everything behind it is lost, also what\n\
              was acknowledged.\n\
              \"skip-damaged\": only what is damaged is left out, and what it held is lost; what comes behind is\n\
              kept, although it may build on it: acknowledged messages may come again, or be missing.\n\
              A damaged block of the store is passed over and stays where it is; the other two stop there.\n\
              What the journal gives up is kept in the directory quarantine. Copy the data directory before\n\
              you use one of the last two, and take it away again when `verify` finds nothing: the next start\n\
              may be strict.\n\
              Default: \"strict\".",
        set: |config, input| {
            let value = text(input, "one of strict, truncate-tail, skip-damaged")?;
            let found = RecoveryPolicy::ALL.into_iter().find(|(word, _)| *word == value);
            let (_, policy) = found.ok_or_else(|| {
                format!("`{value}` is not one of strict, truncate-tail, skip-damaged")
            })?;
            config.shard.recovery = policy;
            Ok(())
        },
        show: |config| quoted(config.shard.recovery.word()),
    },
    Setting {
        name: "segment_mib",
        doc: "Size of a journal file, MiB. Files are preallocated; at least two exist, and one is kept in\n\
              reserve so that acknowledgements go on when the disk is full.\n\
              Default: 64. Bounds: 40 to 1024.",
        set: |config, input| {
            config.shard.segment_bytes = integer(input, 40..=1024)? * MIB;
            Ok(())
        },
        show: |config| (config.shard.segment_bytes / MIB).to_string(),
    },
    Setting {
        name: "memory_mib",
        doc: "Memory that messages should take, MiB. What is more goes to disk in the background. Where\n\
              that cannot keep up, publishing is slowed at twice as much and refused at four times.\n\
              Default: 256. Bounds: 16 to 1048576.",
        set: |config, input| {
            config.shard.memory = integer(input, 16..=1024 * 1024)? * MIB;
            Ok(())
        },
        show: |config| (config.shard.memory / MIB).to_string(),
    },
    Setting {
        name: "journal_tail_mib",
        doc: "Journal after which what is alive is written out and the journal is let go, MiB: a restart\n\
              reads about so much.\n\
              Default: 192. Bounds: 1 to 65536.",
        set: |config, input| {
            config.shard.journal_tail = integer(input, 1..=65_536)? * MIB;
            Ok(())
        },
        show: |config| (config.shard.journal_tail / MIB).to_string(),
    },
    Setting {
        name: "disk_reserve_mib",
        doc: "Free space on the disk below which new messages are refused, MiB. It is kept for\n\
              acknowledgements, cancels and writing messages out.\n\
              Default: 288. Bounds: 0 to 1048576.",
        set: |config, input| {
            config.shard.disk_reserve = integer(input, 0..=1024 * 1024)? * MIB;
            Ok(())
        },
        show: |config| (config.shard.disk_reserve / MIB).to_string(),
    },
    Setting {
        name: "max_connections",
        doc: "Connections at once; one more is told so and closed.\n\
              Default: 16384. Bounds: 1 to 1000000.",
        set: |config, input| {
            config.max_connections = size(integer(input, 1..=1_000_000)?)?;
            Ok(())
        },
        show: |config| config.max_connections.to_string(),
    },
    Setting {
        name: "max_destinations",
        doc: "Destinations at once. There may be fewer: names and positions of destinations and\n\
              durable subscriptions have 4.8 MiB, enough for 23 000 queues with names of\n\
              20 bytes.\n\
              Default: 100000. Bounds: 1 to 10000000.",
        set: |config, input| {
            config.shard.max_destinations = size(integer(input, 1..=10_000_000)?)?;
            Ok(())
        },
        show: |config| config.shard.max_destinations.to_string(),
    },
    Setting {
        name: "topic_max_messages",
        doc: "Messages a topic keeps; beyond it the oldest go.\n\
              Default: 1000000. Bounds: 1 to 1000000000.",
        set: |config, input| {
            config.shard.topic_messages = integer(input, 1..=1_000_000_000)?;
            Ok(())
        },
        show: |config| config.shard.topic_messages.to_string(),
    },
    Setting {
        name: "topic_max_bytes",
        doc: "Bytes of content a topic keeps; beyond it the oldest go.\n\
              Default: 268435456. Bounds: 1048576 to 1099511627776.",
        set: |config, input| {
            config.shard.topic_bytes = integer(input, MIB..=MIB * MIB)?;
            Ok(())
        },
        show: |config| config.shard.topic_bytes.to_string(),
    },
    Setting {
        name: "topic_max_age",
        doc: "How long a topic keeps a message: a duration such as \"12h\" or \"30d\", or ms.\n\
              Default: \"30d\". Bounds: 1s to 365d.",
        set: |config, input| {
            config.shard.topic_age_ms = duration(input, 1_000..=365 * 86_400_000)?;
            Ok(())
        },
        show: |config| quoted(&show_duration(config.shard.topic_age_ms)),
    },
    Setting {
        name: "ack_timeout",
        doc: "How long a delivered message may stay unacknowledged before it is delivered again, where the\n\
              subscriber asks for no time of its own: a duration, or ms.\n\
              Default: \"30m\". Bounds: 100ms to 12h.",
        set: |config, input| {
            config.shard.ack_timeout_ms = duration(input, limits::ACK_TIMEOUT_RANGE_MS)?;
            Ok(())
        },
        show: |config| quoted(&show_duration(config.shard.ack_timeout_ms)),
    },
    Setting {
        name: "max_failures",
        doc: "Failed deliveries (rejected, timed out) after which a queue message is a dead letter.\n\
              Default: 16. Bounds: 1 to 10000.",
        set: |config, input| {
            let value = integer(input, 1..=10_000)?;
            config.shard.max_failures = u16::try_from(value).map_err(|e| e.to_string())?;
            Ok(())
        },
        show: |config| config.shard.max_failures.to_string(),
    },
    Setting {
        name: "front_threads",
        doc: "Threads that serve connections; 0 takes the processors less one, at least one.\n\
              Default: 0. Bounds: 0 to 256.",
        set: |config, input| {
            config.front_threads = size(integer(input, 0..=256)?)?;
            Ok(())
        },
        show: |config| config.front_threads.to_string(),
    },
    Setting {
        name: "log",
        doc: "What goes to the log (stderr): error, warn, info, debug, trace or off; also per module, as in\n\
              \"info,postdate::front=debug\".\n\
              Default: \"info\".",
        set: |config, input| {
            let value = text(input, "a level such as info")?;
            crate::cli::logging::filter(value)?;
            config.log = value.to_owned();
            Ok(())
        },
        show: |config| quoted(&config.log),
    },
    Setting {
        name: "http.listen",
        doc: "Address of HTTP, for health, WebSocket and SockJS, host and port; port 0 takes a free one,\n\
              \"off\" none at all. As with listen, only loopback is taken without --insecure.\n\
              Default: \"127.0.0.1:7780\".",
        set: |config, input| {
            config.http_listen = match text(input, "an address, or off")? {
                "off" => None,
                value => Some(address(value)?),
            };
            Ok(())
        },
        show: |config| quoted(config.http_listen.as_deref().unwrap_or("off")),
    },
    Setting {
        name: "http.origins",
        doc: "Origins whose web pages may connect with WebSocket and SockJS, as in\n\
              [\"https://shop.example\"]; \"*\" is all of them. In the environment and in flags they stand\n\
              with commas between them. Pages from this machine always may, and pages of the host that they\n\
              connect to; but where a proxy on this machine hands requests on, list the host by its name.\n\
              Default: [].",
        set: |config, input| {
            config.http_origins = origins(input)?;
            Ok(())
        },
        show: |config| {
            let all: Vec<_> = config.http_origins.iter().map(|origin| quoted(origin)).collect();
            format!("[{}]", all.join(", "))
        },
    },
    Setting {
        name: "stomp.listen",
        doc: "Address of STOMP over TCP, host and port; port 0 takes a free one, \"off\" none at all. As with\n\
              listen, only loopback is taken without --insecure.\n\
              Default: \"127.0.0.1:61613\".",
        set: |config, input| {
            config.stomp_listen = match text(input, "an address, or off")? {
                "off" => None,
                value => Some(address(value)?),
            };
            Ok(())
        },
        show: |config| quoted(config.stomp_listen.as_deref().unwrap_or("off")),
    },
    Setting {
        name: "stomp.tokens",
        doc: "Tokens that STOMP clients may come with, each as the user's name, a colon, and the SHA-256 of the\n\
              token in hexadecimal digits (printf %s TOKEN | sha256sum). With any, STOMP takes nobody\n\
              without one; the binary protocol asks for none yet.\n\
              Default: [].",
        set: |config, input| {
            config.stomp_tokens = tokens(input)?;
            Ok(())
        },
        show: |config| {
            let shown = |(hash, user): (&[u8; 32], &String)| {
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                quoted(&format!("{user}:{hash}"))
            };
            let all: Vec<_> = config.stomp_tokens.iter().map(shown).collect();
            format!("[{}]", all.join(", "))
        },
    },
];

// The bounds written in the texts above.
const _: () = {
    assert!(DELAY_MAX_MS < 365 * 86_400_000);
    assert!(*limits::ACK_TIMEOUT_RANGE_MS.start() == 100);
    assert!(*limits::ACK_TIMEOUT_RANGE_MS.end() == 12 * 3_600_000);
    assert!(40 * MIB > limits::JOURNAL_PAYLOAD_MAX as u64 + 4 * limits::FRAME_ALIGN as u64);
};

fn text<'a>(input: Input<'a>, wanted: &str) -> Result<&'a str, String> {
    match input {
        Input::Text("") => Err(format!("is empty; it takes {wanted}")),
        Input::Text(text) => Ok(text),
        Input::Integer(number) => {
            Err(format!("{number} is a number; it takes {wanted}, in quotes"))
        }
        Input::List(_) => Err(format!("is a list; it takes {wanted}, in quotes")),
        Input::Other(kind) => Err(format!("is {kind}; it takes {wanted}, in quotes")),
    }
}

/// `HOST:PORT`.
fn address(value: &str) -> Result<String, String> {
    let port = value.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(format!("`{value}` is not HOST:PORT, for example 127.0.0.1:7700"));
    }
    Ok(value.to_owned())
}

/// `USER:HASH`, many of them.
fn tokens(input: Input<'_>) -> Result<BTreeMap<[u8; 32], String>, String> {
    let mut tokens = BTreeMap::new();
    for given in list(input, "tokens such as alice:9f86d0…")? {
        let parts = given.rsplit_once(':').filter(|(user, _)| !user.is_empty());
        let read = parts.and_then(|(user, hash)| Some((hash_of(hash)?, user)));
        let (hash, user) = read.ok_or_else(|| {
            format!("`{given}` is no token; write USER:HASH, the hash in 64 hexadecimal digits")
        })?;
        tokens.insert(hash, user.to_owned());
    }
    Ok(tokens)
}

fn hash_of(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let ascii = digits.len() == 64 && digits.is_ascii();
    for (at, byte) in hash.iter_mut().enumerate().filter(|_| ascii) {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    ascii.then_some(hash)
}

/// A list of texts: in the environment and in flags with commas between them.
fn list<'a>(input: Input<'a>, wanted: &str) -> Result<Vec<&'a str>, String> {
    Ok(match input {
        Input::List(list) => list.to_vec(),
        Input::Text("") => Vec::new(),
        Input::Text(text) => text.split(',').map(str::trim).collect(),
        Input::Integer(number) => return Err(format!("{number} is a number; it takes {wanted}")),
        Input::Other(kind) => return Err(format!("is {kind}; it takes {wanted}")),
    })
}

fn origins(input: Input<'_>) -> Result<Vec<String>, String> {
    let wanted = "origins such as https://shop.example, or *";
    let given = list(input, wanted)?;
    for origin in &given {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_host = |host: &str| !host.is_empty() && !host.contains(['/', ' ', ',', '@', '*']);
        if *origin != "*" && !host.is_some_and(is_host) {
            return Err(format!("`{origin}` is no origin; it takes {wanted}"));
        }
    }
    Ok(given.into_iter().map(str::to_owned).collect())
}

fn integer(input: Input<'_>, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let (min, max) = (*bounds.start(), *bounds.end());
    let wanted = format!("a whole number from {min} to {max}");
    let number = match input {
        Input::Integer(number) => number,
        // Variables and flags are texts always.
        Input::Text(text) => {
            text.trim().parse().map_err(|_| format!("`{text}` is not {wanted}"))?
        }
        Input::List(_) => return Err(format!("is a list; it takes {wanted}")),
        Input::Other(kind) => return Err(format!("is {kind}; it takes {wanted}")),
    };
    match u64::try_from(number) {
        Ok(value) if bounds.contains(&value) => Ok(value),
        _ => Err(format!("{number} is out of bounds; it takes {wanted}")),
    }
}

fn duration(input: Input<'_>, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let (min, max) = (show_duration(*bounds.start()), show_duration(*bounds.end()));
    let wanted = format!("a duration from {min} to {max}");
    let ms = match input {
        Input::Integer(number) => u64::try_from(number).ok(),
        Input::Text(text) => Some(duration_ms(text)?),
        Input::List(_) => return Err(format!("is a list; it takes {wanted}")),
        Input::Other(kind) => return Err(format!("is {kind}; it takes {wanted}")),
    };
    ms.filter(|ms| bounds.contains(ms))
        .ok_or_else(|| format!("is out of bounds; it takes {wanted}"))
}

fn size(value: u64) -> Result<usize, String> {
    usize::try_from(value).map_err(|error| error.to_string())
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => shown.push_str("\\\""),
            '\\' => shown.push_str("\\\\"),
            c if c.is_control() => shown.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}
