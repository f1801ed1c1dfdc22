//! Goal: the command line does what its help says, for people and for programs. Method: the real
//! binary against a real server; JSON keys and exit codes are a contract and checked as such.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::Value;
use support::{Server, run, run_with_input};

struct Cli {
    server: Server,
    _dir: tempfile::TempDir,
}

impl Cli {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { server: Server::start(dir.path(), &[]), _dir: dir }
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.run_with_input(args, "")
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> (i32, String, String) {
        let mut all = args.to_vec();
        all.extend(["--server", &self.server.address]);
        run_with_input(&all, input)
    }

    /// The one line of JSON a command prints.
    fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let (code, out, error) = self.run(&all);
        assert_eq!(code, 0, "{args:?}: {error}");
        assert_eq!(out.lines().count(), 1, "{args:?}: {out}");
        serde_json::from_str(&out).unwrap()
    }
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn json_keys_are_a_contract() {
    let cli = Cli::new();
    let published = cli.json(&["publish", "/queue/q", "hello", "--in", "10m"]);
    assert_eq!(keys(&published), ["destination", "due_ms", "id"]);
    assert_eq!(published["destination"], "/queue/q");
    let id = published["id"].as_str().unwrap();
    let status = cli.json(&["query", id]);
    assert_eq!(keys(&status), ["attempts", "destination", "due_ms", "id", "state"]);
    assert_eq!((&status["state"], &status["due_ms"]), (&"scheduled".into(), &published["due_ms"]));
    let moved = cli.json(&["reschedule", id, "--in", "5m"]);
    assert_eq!((keys(&moved).contains(&"id"), &moved["answer"]), (true, &"rescheduled".into()));
    let cancelled = cli.json(&["cancel", id]);
    assert_eq!(keys(&cancelled), ["answer", "id"]);
    assert_eq!(cancelled["answer"], "cancelled");
    assert_eq!(cli.json(&["query", id])["state"], "cancelled");
    cli.json(&["publish", "/queue/q", "now", "--key", "k", "--header", "a=b", "--priority", "9"]);
    let received = cli.json(&["subscribe", "/queue/q", "--max", "1"]);
    for key in ["id", "destination", "body", "due_ms", "received_ms", "attempt", "redelivered"] {
        assert!(!received[key].is_null(), "{key} is missing in {received}");
    }
    assert_eq!((&received["body"], &received["attempt"]), (&"now".into(), &1.into()));
}

#[test]
fn answers_of_cancel_name_the_state() {
    let cli = Cli::new();
    let answer = |id: &str| {
        let (code, out, _) = cli.run(&["cancel", id, "--json"]);
        let line: Value = serde_json::from_str(&out).unwrap();
        let answer = line["answer"].as_str().unwrap().to_string();
        assert_eq!(code == 0, answer.ends_with("cancelled"), "the exit code tells a script");
        answer
    };
    let publish = |args: &[&str]| {
        let mut all = vec!["publish", "/queue/q", "x"];
        all.extend(args);
        cli.json(&all)["id"].as_str().unwrap().to_string()
    };
    let later = publish(&["--level", "18"]);
    assert_eq!((answer(&later), answer(&later)), ("cancelled".into(), "already cancelled".into()));
    let now = publish(&[]);
    assert_eq!(answer(&now), "delivered");
    assert_eq!(cli.json(&["subscribe", "/queue/q", "--max", "1"])["id"], now.as_str());
    assert_eq!(answer(&now), "acknowledged");
    let mut unknown = now.clone();
    unknown.replace_range(20.., "ZZZZZZ");
    assert_eq!(answer(&unknown), "unknown");
}

#[test]
fn lines_of_a_file_become_messages_with_their_own_delays() {
    let cli = Cli::new();
    let object = r#"{"body": "later", "in": "300ms", "key": "k", "headers": {"a": "b"}}"#;
    let lines = &format!("plain\n{object}\n\nlast\n");
    let (code, out, error) =
        cli.run_with_input(&["publish", "/queue/lines", "--lines", "-", "--json"], lines);
    assert_eq!(code, 0, "{error}");
    let published = out.lines().count();
    assert!((3..=4).contains(&published), "{out}");
    let (code, out, _) =
        cli.run(&["subscribe", "/queue/lines", "--json", "--max", &published.to_string()]);
    assert_eq!(code, 0);
    let bodies: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(bodies[0]["body"], "plain");
    let last = &bodies[published - 1];
    assert_eq!(last["body"], "later", "the delayed one comes last");
    assert!(last["received_ms"].as_u64() >= last["due_ms"].as_u64());
}

#[test]
fn a_bad_line_is_named_and_nothing_of_its_batch_is_sent() {
    let cli = Cli::new();
    let lines = "good\n{\"body\": \"x\", \"in\": \"41d\"}\n{\"boddy\": 1}\n";
    let (code, _, error) = cli.run_with_input(&["publish", "/queue/bad", "--lines", "-"], lines);
    assert_ne!(code, 0);
    assert!(error.contains("line 2") || error.contains("line 3"), "{error}");
    let stats = cli.json(&["stats"]);
    assert_eq!(stats["produced_total"], 0, "{stats}");
}

#[test]
fn a_message_comes_back_unless_it_is_acknowledged() {
    let cli = Cli::new();
    let id = cli.json(&["publish", "/queue/q", "x"])["id"].clone();
    let first = cli.json(&["subscribe", "/queue/q", "--max", "1", "--no-ack"]);
    assert_eq!((&first["id"], &first["redelivered"]), (&id, &false.into()));
    let again = cli.json(&["subscribe", "/queue/q", "--max", "1"]);
    assert_eq!(
        (&again["id"], &again["redelivered"], &again["attempt"]),
        (&id, &true.into(), &2.into())
    );
    assert_eq!(cli.json(&["query", id.as_str().unwrap()])["state"], "acknowledged");
}

#[test]
fn refusals_say_what_to_do_and_exit_with_their_code() {
    let cli = Cli::new();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["publish", "/queue/q", "x", "--in", "41d"], 1, "40 days"),
        (&["publish", "/queue/q", "x", "--in", "-5s"], 2, ""),
        (&["publish", "/queue/q", "x", "--level", "19"], 2, ""),
        (&["publish", "queue/q", "x"], 1, "/queue/"),
        (&["publish", "", "x"], 1, "empty"),
        (&["publish", "/queue/q", "x", "--in", "5s", "--level", "3"], 2, "cannot be used with"),
        (&["query", "not-an-id"], 2, "26 characters"),
        (&["list", "/queue/none"], 1, "no destination"),
        (&["frobnicate"], 2, ""),
    ];
    for (args, code, text) in cases {
        let (got, out, error) = cli.run(args);
        assert_eq!(got, *code, "{args:?}: {out}{error}");
        assert!(error.contains(text), "{args:?}: {error}");
    }
    let (code, _, error) = cli.run(&["publish", "/queue/q", "x", "--in", "41d", "--json"]);
    let error: Value = serde_json::from_str(error.trim()).unwrap();
    assert_eq!((code, &error["error"]["code"]), (1, &30.into()));
    assert_eq!(error["error"]["word"], "delay-too-long");
}

#[test]
fn without_a_server_the_exit_code_is_3_and_the_text_helps() {
    let (code, _, error) = run(&["publish", "/queue/q", "x", "--server", "127.0.0.1:1"]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("postdate serve"), "{error}");
}

#[test]
fn list_shows_what_is_scheduled_and_destinations_count() {
    let cli = Cli::new();
    for delay in ["30m", "10m", "20m"] {
        cli.json(&["publish", "/queue/q", "x", "--in", delay]);
    }
    let (_, out, _) = cli.run(&["list", "/queue/q", "--json", "--limit", "2"]);
    let dues: Vec<u64> = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["due_ms"].as_u64())
        .collect();
    assert_eq!(dues.len(), 2, "{out}");
    assert!(dues[0] < dues[1]);
    let (code, out, _) = cli.run(&["destinations"]);
    assert_eq!(code, 0);
    assert!(out.contains("/queue/q"), "{out}");
}

#[test]
fn operators_create_limit_pause_purge_and_delete() {
    let cli = Cli::new();
    let line = |args: &[&str]| cli.json(args);
    let created = line(&["create", "/queue/q"]);
    assert_eq!(keys(&created), ["answer", "destination"]);
    assert_eq!(
        (&created["destination"], &created["answer"]),
        (&"/queue/q".into(), &"exists".into())
    );
    let limited = line(&["limit", "/queue/q", "--max-messages", "3", "--max-age", "7d"]);
    assert_eq!(keys(&limited), ["destination", "max_age_ms", "max_messages"]);
    assert_eq!(limited["max_age_ms"], 604_800_000);
    assert_eq!(line(&["limit", "/queue/q", "--max-age", "0"])["max_messages"], 3);
    for delay in ["0", "0", "1h"] {
        line(&["publish", "/queue/q", "x", "--in", delay]);
    }
    let (code, _, error) = cli.run(&["publish", "/queue/q", "x", "--json"]);
    let error: Value = serde_json::from_str(error.trim()).unwrap();
    assert_eq!((code, &error["error"]["word"]), (1, &"destination-full".into()));
    assert_eq!(line(&["pause", "/queue/q"])["answer"], "paused");
    assert_eq!(line(&["destinations"])["paused"], true);
    let (_, out, _) = cli.run(&["destinations"]);
    assert!(out.contains("paused  at most 3 messages"), "{out}");
    assert_eq!(line(&["resume", "/queue/q"])["answer"], "resumed");
    let purged = line(&["purge", "/queue/q"]);
    assert_eq!(keys(&purged), ["destination", "ready", "scheduled"]);
    assert_eq!((&purged["ready"], &purged["scheduled"]), (&2.into(), &0.into()));
    let (code, out, _) = cli.run(&["purge", "/queue/q", "--scheduled"]);
    assert_eq!(code, 0);
    assert_eq!(out, "/queue/q  0 messages dropped, 1 scheduled message dropped\n");
    assert_eq!(line(&["delete", "/queue/q"])["answer"], "deleted");
    for command in ["delete", "purge", "pause", "resume"] {
        let (code, _, error) = cli.run(&[command, "/queue/q"]);
        assert_eq!(code, 1);
        assert!(error.contains("no destination /queue/q"), "{error}");
    }
}

#[test]
fn sigterm_drains_and_exits_with_0() {
    let mut cli = Cli::new();
    let id = cli.json(&["publish", "/queue/q", "x", "--in", "1h"])["id"].clone();
    assert_eq!(cli.server.terminate().code(), Some(0));
    let server = Server::start(cli._dir.path(), &[]);
    let (_, out, _) = run(&["query", id.as_str().unwrap(), "--server", &server.address]);
    assert!(out.contains("scheduled"), "{out}");
}
