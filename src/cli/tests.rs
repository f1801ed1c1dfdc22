//! The command line as a whole.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("postdate").chain(line.split_whitespace()))
}

const ID: &str = "01HF7YAYX80000000000000001";

#[test]
fn the_definition_is_sound_and_every_command_has_examples() {
    let mut command = Cli::command();
    command.build();
    command.clone().debug_assert();
    fn check(command: &clap::Command) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{} has no examples", sub.get_name());
            assert!(help.lines().all(|line| line.chars().count() <= 100), "{}", sub.get_name());
            check(sub);
        }
    }
    check(&command);
    let help = command.get_after_help().unwrap().to_string();
    for code in 0..=5 {
        assert!(help.contains(&format!("\n  {code}  ")), "exit code {code} is documented");
    }
}

#[test]
fn good_lines_are_taken() {
    for line in [
        "serve",
        "serve --config c.toml --data-dir d --listen 127.0.0.1:0 --json --insecure --log debug",
        "serve --print-config",
        "publish /queue/a body",
        "publish /queue/a body --every 5m --times 3 --in 10s",
        "publish /queue/a body --cron @daily --zone Europe/Berlin --times 3",
        "publish /queue/a - --in 10m --key k --header a=b --header c=d=e --priority 9",
        "publish /queue/a body --at 2026-12-24T18:00:00Z --expires 1h --dedup-id x",
        "publish /queue/a body --level 18 --server localhost:1 --json",
        "publish /queue/a --lines - --raw",
        "--json publish /queue/a body",
        "subscribe /queue/a --max 3 --no-ack --credit 10",
        "subscribe /topic/a --durable d --from earliest",
        "subscribe /topic/a --from 17",
        &format!("query {ID} {ID}"),
        &format!("cancel {ID}"),
        &format!("reschedule {ID} --in 5s"),
        &format!("reschedule {ID} --at 1700000000000"),
        "list",
        "list /queue/a --from now --to +1h --limit 5",
        "destinations",
        "backup /backup/monday --server localhost:1 --json",
        "create /queue/a",
        "delete /queue/a --json",
        "purge /queue/a",
        "purge /queue/a --scheduled --server localhost:1",
        "pause /queue/a",
        "resume /queue/a",
        "limit /queue/a --max-messages 1000",
        "limit /queue/a --max-age 7d",
        "limit /queue/a --max-messages 0 --max-age 0",
        "stats",
        "verify dir",
        "bench publish --connections 16 --batch 100 --in-flight 4 --size 100 --seconds 1",
        "bench publish --delay-min 10s --delay-max 1h --warmup 1 --rate 1000 --priority 3",
        "bench publish --messages 1000 --keep --destination /queue/a",
        "bench cancel --messages 1000 --share 0.5 --order random --cancel-batch 10 --settle 1s",
        "bench deliver --rate 10000 --delay 2s",
        "bench spike --messages 1000",
        "bench recover --data-dir d --messages 1000",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn bad_lines_are_refused_with_what_is_wrong() {
    for (line, part) in [
        ("", "Usage"),
        ("publich", "publish"),
        ("publish", "DEST"),
        ("publish /queue/a", "BODY"),
        ("publish /queue/a body --lines f", "cannot be used with"),
        ("publish /queue/a body --raw", "cannot be used with"),
        ("publish /queue/a b --in 1s --at 2026-12-24T18:00:00Z", "cannot be used with"),
        ("publish /queue/a b --in -5s", "negative"),
        ("publish /queue/a b --in soon", "1h30m"),
        ("publish /queue/a b --in 99999999999999999999d", "1h30m"),
        ("publish /queue/a b --at noon", "RFC 3339"),
        ("publish /queue/a b --level 19", "1..=18"),
        ("publish /queue/a b --priority 10", "0..=9"),
        ("publish /queue/a b --header x", "NAME=VALUE"),
        ("publish /queue/a b --header =x", "NAME=VALUE"),
        ("subscribe /queue/a --max 0", "1.."),
        ("subscribe /queue/a --credit 65536", "1..=65535"),
        ("subscribe /topic/a --from first", "earliest"),
        ("query", "ID"),
        ("query 123", "26 characters"),
        ("cancel 01HF7YAYX8000000000000000U", "character 26"),
        ("reschedule 01HF7YAYX80000000000000001", "--in"),
        ("list --from noon", "+10m"),
        ("create", "DEST"),
        ("delete", "DEST"),
        ("purge", "DEST"),
        ("pause", "DEST"),
        ("resume", "DEST"),
        ("limit", "DEST"),
        ("limit /queue/a", "--max-messages"),
        ("limit /queue/a --max-messages many", "many"),
        ("limit /queue/a --max-messages -1", "-1"),
        ("limit /queue/a --max-age 7", "7s"),
        ("limit /queue/a --max-age soon", "1h30m"),
        ("verify", "DIR"),
        ("bench", "Usage"),
        ("bench publish --messages 5 --seconds 5", "cannot be used with"),
        ("bench cancel --share 1.5", "0 to 1"),
    ] {
        let error = parse(line).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(part), "{line}: {text}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn the_server_is_the_documented_one_by_default() {
    let command = Cli::command();
    let stats = command.find_subcommand("stats").unwrap();
    let server = stats.get_arguments().find(|arg| arg.get_id() == "server").unwrap();
    assert_eq!(server.get_default_values(), ["127.0.0.1:7700"]);
    assert_eq!(server.get_env(), Some(std::ffi::OsStr::new("POSTDATE_SERVER")));
}
