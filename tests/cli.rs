//! What commands print: help, settings, suites, models, errors, dead letters, exports.

mod support;

use std::{net::TcpListener, process::Command};

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{World, assert_counts, binary, text};

fn world() -> World {
    let world = World::bare("amqp://somebody:hunter2@127.0.0.1:1/%2f", None);
    world.set("COLUMNS", "100");
    world
}

/// The same text with no blanks at the ends of lines, which editors remove from snapshots.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_lists_the_commands() {
    assert_snapshot!(trimmed(&world().augur(&["--help"]).expect(0)), @"
    Measures how fast AI models run, learns from it, and predicts what nobody has measured

    Usage: augur [OPTIONS] <COMMAND>

    Commands:
      up           Runs everything on this machine: broker, aggregator, updater, workers
      doctor       Says what works on this machine and what does not, with the remedy
      topology     Compares `queues.yaml` with the broker, and declares it there
      suite        Submits and checks suites
      job          Single jobs
      run          Runs: one submission of a suite each
      worker       Workers, which run jobs
      browsers     The browser pool, which runs jobs for browsers
      aggregator   The result aggregator, which owns the database
      updater      The model-update stage, which trains predictors
      learner      The active learner, which proposes benchmarks and submits them
      result       The result stream
      dead-letter  Dead letters: jobs that used up their attempts
      model        The model zoo
      device       Devices: this machine's and published ones
      measurement  Measurements that were made elsewhere, and all measurements as a table
      feature      The numbers that predictors learn from
      predictor    Predictors and their releases
      recommend    Which hardware suits a model
      plan         What to benchmark next
      settings     Settings and where each value comes from
      completions  Prints shell completions
      help         Print this message or the help of the given subcommand(s)

    Options:
          --settings <FILE>
              Settings file, instead of ./augur.toml or ~/.config/augur/augur.toml

          --log-format <LOG_FORMAT>
              How logs are written to stderr

              Possible values:
              - text: For people
              - json: One JSON object per line

              [default: text]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Example: augur up --suite deploy/suites/demo.yaml --once
    ");
}

#[test]
fn settings_come_with_their_origins_and_without_secrets() {
    let world = world();
    world.set("AUGUR_WORKER__GRACE_S", "7");
    let Value::Array(rows) = world.augur(&["settings", "show", "--format", "json"]).json() else {
        panic!("settings are a list")
    };
    let defaults = rows.iter().filter(|row| row["origin"] == "default").count();
    assert!(defaults > 20, "{defaults} settings have their default");
    let keys = ["amqp_url", "state_directory", "worker.grace_s", "worker.prefetch", "worker.profiles.hold.runner"];
    let own: Vec<_> = rows.into_iter().filter(|row| keys.contains(&text(row, "key"))).collect();
    let directory = world.path("").display().to_string();
    let shown = serde_json::to_string_pretty(&own).expect("JSON").replace(&directory, "[directory]/");
    assert_snapshot!(shown, @r#"
    [
      {
        "key": "amqp_url",
        "value": "amqp://somebody:***@127.0.0.1:1/%2f",
        "origin": "environment AUGUR_AMQP_URL"
      },
      {
        "key": "state_directory",
        "value": "[directory]/state",
        "origin": "environment AUGUR_STATE_DIRECTORY"
      },
      {
        "key": "worker.grace_s",
        "value": "7",
        "origin": "environment AUGUR_WORKER__GRACE_S"
      },
      {
        "key": "worker.prefetch",
        "value": "0",
        "origin": "default"
      },
      {
        "key": "worker.profiles.hold.runner",
        "value": "command",
        "origin": "[directory]/test.toml"
      }
    ]
    "#);
}

#[test]
fn a_suite_is_checked_case_by_case() {
    let world = world();
    let file = world.write(
        "tiny.yaml",
        "version: 1\nname: tiny\nbenchmarks:\n  - {models: [mobilenet-v2], batch_sizes: [1, 2]}\n\
         tests:\n  - {name: nothing, profile: noop, priority: high, timeout_s: 5}\n",
    );
    assert_snapshot!(world.augur(&["suite", "check", &file, "--format", "json"]).expect(0), @r#"
    [
      {
        "case": "mobilenet-v2 cpu fp32 batch 1 image 224 threads 1",
        "kind": "benchmark",
        "platform": "cpu",
        "priority": "normal",
        "timeout_s": 300.0,
        "attempts_max": 3,
        "requirements": {
          "memory_mb_min": null,
          "device_memory_mb_min": null,
          "browser": null,
          "tags": []
        },
        "unique_key": null
      },
      {
        "case": "mobilenet-v2 cpu fp32 batch 2 image 224 threads 1",
        "kind": "benchmark",
        "platform": "cpu",
        "priority": "normal",
        "timeout_s": 300.0,
        "attempts_max": 3,
        "requirements": {
          "memory_mb_min": null,
          "device_memory_mb_min": null,
          "browser": null,
          "tags": []
        },
        "unique_key": null
      },
      {
        "case": "nothing",
        "kind": "test",
        "platform": "cpu",
        "priority": "high",
        "timeout_s": 5.0,
        "attempts_max": 3,
        "requirements": {
          "memory_mb_min": null,
          "device_memory_mb_min": null,
          "browser": null,
          "tags": []
        },
        "unique_key": null
      }
    ]
    "#);
}

#[test]
fn what_is_unusual_about_a_case_is_shown() {
    let world = world();
    let file = world.write(
        "odd.yaml",
        "version: 1\nname: odd\ntests:\n  - {name: plain, profile: noop}\n\
         \x20 - {name: picky, profile: noop, attempts_max: 5, unique_key: k1,\n\
         \x20    requirements: {memory_mb_min: 16000, tags: [quiet]}}\n",
    );
    assert_snapshot!(trimmed(&world.augur(&["suite", "check", &file]).expect(0)), @"
     case    kind   platform   priority   timeout   unusual
    ───────────────────────────────────────────────────────────────────────────────────────────────
     plain   test   cpu        normal     300 s
     picky   test   cpu        normal     300 s     attempts 5, memory 16000 MB, tag quiet, key k1
    ");
}

#[test]
fn nothing_is_deleted_without_saying_what() {
    let answer = world().augur(&["dead-letter", "purge"]);
    assert!(answer.code == Some(2) && answer.stderr.contains("--all"), "{answer:?}");
}

#[test]
fn flags_that_cannot_be_are_refused_with_what_could() {
    let world = world();
    for (arguments, expected) in [
        (["suite", "submit", "x.yaml", "--delay", "soon"], "90s, 15m, 2h or 7d"),
        (["suite", "submit", "x.yaml", "--at", "tomorrow"], "2026-11-22T08:00:00Z"),
        (["suite", "submit", "x.yaml", "--attempts", "21"], "1..=20"),
        (["suite", "submit", "x.yaml", "--run-id", "seven"], "is not a run id"),
        (["result", "replay", "--from=first", "--until", "next"], "now, an offset"),
        (["suite", "submit", "x.yaml", "--delay=1m", "--at=2026-11-22T08:00:00Z"], "cannot be used with"),
        (["job", "submit", "--kind=test", "--profile=noop", "--require-memory-mb=lots"], "invalid digit"),
        (["job", "submit", "--kind=test", "--profile=noop", "--at=tomorrow"], "2026-11-22T08:00:00Z"),
        (["job", "submit", "--kind=test", "--profile=noop", "--delay=366d"], "more than 365 days ahead"),
    ] {
        let answer = world.augur(&arguments);
        assert!(answer.code == Some(2) && answer.stderr.contains(expected), "{answer:?}");
    }
}

#[test]
fn models_of_an_empty_cache_are_listed() {
    let world = world();
    assert_snapshot!(trimmed(&world.augur(&["model", "list"]).expect(0)), @"
     model                             family      modality     parameters   cached   sha256
    ─────────────────────────────────────────────────────────────────────────────────────────
     bert-base-uncased                 bert        text         109482240    no       –
     bert-tiny                         bert        text         4385920      no       –
     distilbert-base                   bert        text         66362880     no       –
     t5-small                          t5          text         60506624     no       –
     bart-base                         bart        text         139420416    no       –
     gpt2                              gpt         text         124439808    no       –
     distilgpt2                        gpt         text         81912576     no       –
     opt-125m                          opt         text         125239296    no       –
     llama-68m                         llama       text         68030208     no       –
     smollm2-135m                      llama       text         134515008    no       –
     vit-base-patch16-224              vit         vision       86567656     no       –
     vit-tiny-patch16-224              vit         vision       5717416      no       –
     deit-tiny-distilled-patch16-224   deit        vision       5910800      no       –
     deit-small-patch16-224            deit        vision       22050664     no       –
     clip-vit-base-patch32             clip        multimodal   151277313    no       –
     detr-resnet-50                    detr        vision       41577888     no       –
     resnet18                          resnet      vision       11689512     no       –
     resnet50                          resnet      vision       25557032     no       –
     mobilenet-v2                      mobilenet   vision       3504872      no       –
     whisper-tiny                      whisper     audio        8208384      no       –
     whisper-base                      whisper     audio        72593920     no       –
     wav2vec2-base                     wav2vec2    audio        94370816     no       –
     clap-htsat-unfused                clap        multimodal   153492890    no       –
     smolvlm-256m                      llava       multimodal   256484928    no       –
     blip-image-captioning-base        blip        multimodal   247414076    no       –
    ");
}

#[test]
fn a_model_is_inspected_in_the_precision_that_it_has() {
    let world = world();
    let path = world.path("vit.onnx");
    let file = path.to_str().expect("UTF-8");
    world.augur(&["model", "build", "vit", "--miniature", "--precision", "int8", "-o", file]).expect(0);
    let found = world.augur(&["model", "inspect", file, "--batch-size", "2", "--format", "json"]).json();
    assert_eq!((text(&found, "precision"), found["parameters"].as_u64()), ("int8", Some(626_536)));
    let sum = |field: &str| found["kinds"].as_array().expect("kinds").iter().map(|kind| kind[field].as_u64()).sum();
    assert_eq!(found["macs"].as_u64(), sum("macs"));
    // Two images, whose tokens are smaller.
    assert_eq!(found["largest_activation"]["bytes"].as_u64(), Some(2 * 3 * 64 * 64 * 4));
    assert!(found["activation_peak_bytes"].as_u64() > found["largest_activation"]["bytes"].as_u64());

    let line: Value = serde_json::from_str(&world.augur(&["model", "inspect", file, "--operators"]).expect(0))
        .expect("one line of JSON");
    assert_eq!((text(&line, "model"), line["image_size"].as_u64()), ("vit", Some(64)));
    let operators = line["operators"].as_array().expect("operators");
    let macs: u64 = operators.iter().map(|of| of[1].as_u64().expect("MACs") * of[5].as_u64().expect("a count")).sum();
    assert_eq!(Some(2 * macs), found["macs"].as_u64(), "for a batch of one");

    let answer = world.augur(&["model", "build", "vitt", "--miniature", "-o", file]);
    assert!(answer.code == Some(2) && answer.stderr.contains("near it are `vit`"), "{answer:?}");
}

#[test]
fn an_error_comes_with_its_causes_and_a_hint() {
    let world = world();
    // Nobody listens on a port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    world.set("AUGUR_AGGREGATOR_URL", &format!("http://127.0.0.1:{port}"));
    let answer = world.augur(&["run", "list"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(3), ""));
    assert_snapshot!(answer.stderr.replace(&port.to_string(), "[port]"), @"
    error: failed to reach the aggregator at http://127.0.0.1:[port]
      caused by: error sending request for url (http://127.0.0.1:[port]/api/runs?limit=50)
      caused by: client error (Connect)
      caused by: tcp connect error
      caused by: Connection refused (os error 111)
    hint: is an aggregator running (`augur aggregator start`, `augur up`) at `aggregator_url`?
    ");
}

#[test]
fn wrong_usage_and_wrong_settings_are_exit_code_2() {
    let world = world();
    let answer = world.augur(&["suite", "sumbit", "x.yaml"]);
    assert!(answer.code == Some(2) && answer.stderr.contains("'submit'"), "{answer:?}");
    world.set("AUGUR_AMQP_URL", "amqp://127.0.0.1:1");
    world.set("AUGUR_AGGREGATOR__DATABASE_MEMORY_MB", "64");
    let answer = world.augur(&["aggregator", "start"]);
    assert!(answer.code == Some(2) && answer.stderr.contains("`aggregator.database_memory_mb` is 64"), "{answer:?}");
    world.set("AUGUR_WORKER__GRACE", "7");
    let answer = world.augur(&["settings", "show"]);
    assert!(answer.code == Some(2) && answer.stderr.contains("AUGUR_WORKER__GRACE is no setting"), "{answer:?}");
}

#[test]
fn completions_are_printed() {
    let script = world().augur(&["completions", "bash"]).expect(0);
    assert!(script.contains("complete -F _augur"), "{script}");
}

/// Each line of the log that could not be written was a panic, of whichever part of a daemon had written it.
#[test]
fn a_daemon_whose_log_nobody_reads_ends_as_it_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, stderr) = std::io::pipe().expect("a pipe");
    drop(log);
    let mut updater = Command::new(binary());
    updater.args(["updater", "start"]).stderr(stderr);
    updater.env("AUGUR_AMQP_URL", "amqp://127.0.0.1:1/%2f").env("AUGUR_BROKER__PATIENCE_S", "1");
    updater.env("AUGUR_STATE_DIRECTORY", directory.path());
    assert_eq!(updater.status().expect("started").code(), Some(3), "no broker");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    // `script` of util-linux runs a command on a terminal of its own.
    let on_a_terminal = |arguments: &str, no_colour: bool| {
        let mut command = Command::new("script");
        command.args(["--quiet", "--command", &format!("{} {arguments}", binary().display()), "/dev/null"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm").env("AUGUR_BROKER__PATIENCE_S", "1");
        // Whatever becomes of the connection, something is said of it.
        command.env("AUGUR_LOG", "trace");
        command.env("AUGUR_AMQP_URL", "amqp://nobody:hidden@127.0.0.1:1/%2f");
        if no_colour {
            command.env("NO_COLOR", "1");
        }
        String::from_utf8_lossy(&command.output().expect("script of util-linux").stdout).into_owned()
    };
    for arguments in ["--help", "updater start"] {
        let (coloured, plain) = (on_a_terminal(arguments, false), on_a_terminal(arguments, true));
        assert!(coloured.contains("\u{1b}["), "{arguments}: {coloured}");
        assert!(!plain.contains("\u{1b}[") && plain.len() > 100, "{arguments}: {plain}");
    }
}

#[test]
fn dead_letters_are_filtered_told_and_deleted() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let run = world.submit("tests: [{name: stuck, profile: hold, method: stuck, timeout_s: 4, attempts_max: 1}]");
    world.holds().next().gone();
    world.augur(&["run", "wait", &run, "--timeout-s", "120"]).expect(1);

    let letters = world.augur(&["dead-letter", "list", "--run", &run, "--format", "json"]).json();
    let job = text(&letters[0], "job_id").to_owned();
    let shown = world.augur(&["job", "show", &job, "--format", "json"]).json();
    assert_eq!((text(&shown, "status"), text(&shown["attempts"][0], "failure_type")), ("dead", "timed-out"));
    let history = world.augur(&["dead-letter", "show", &job]).expect(0);
    assert!(history.contains("stuck: timed-out after 1 attempts") && history.contains("attempt 1 on w1"), "{history}");
    let details = world.augur(&["dead-letter", "show", &job, "--format", "json"]).json();
    let attempt = &details["history"][0];
    assert!(text(attempt, "failure_message").contains("ran longer than 4000 ms"), "{details:#}");
    assert_eq!(text(attempt, "output_tail").trim_end(), "holding stuck");
    let report = world.augur(&["run", "report", &run, "--format", "junit"]).expect(0);
    assert!(report.contains("errors=\"1\""), "{report}");

    let none = world.augur(&["dead-letter", "list", "--reason", "crashed"]);
    assert!(none.stderr.contains("none of the 1 dead letters matches"), "{none:?}");
    assert_eq!(none.expect(0), "");
    let dry = world.augur(&["dead-letter", "replay", "--job", &job, "--dry-run", "--format", "json"]).json();
    assert_eq!((dry["replayed"].as_u64(), dry["dry_run"].as_bool()), (Some(1), Some(true)), "{dry:#}");
    let purged = world.augur(&["dead-letter", "purge", "--reason", "timed-out"]).expect(0);
    assert!(purged.contains("1 deleted"), "{purged}");
    let none = world.augur(&["dead-letter", "list"]);
    assert!(none.code == Some(0) && none.stderr.contains("there are no dead letters"), "{none:?}");
}

#[test]
fn a_suite_that_is_submitted_twice_under_one_id_is_one_run_and_each_job_counts_once() {
    const RUN: &str = "0190b5a0-0000-7000-8000-000000000001";
    let world = World::new();
    let _aggregator = world.aggregator();
    let suite = "version: 1\nname: twice\ntests: [{name: nothing, profile: noop, repeat: 3}]\n";
    let suite = world.write("twice.yaml", suite);
    for _ in 0..2 {
        assert_eq!(world.augur(&["suite", "submit", &suite, "--run-id", RUN]).expect(0).trim(), RUN);
    }
    // Its only slot comes to this one behind everything that was submitted before.
    let last = world.submit("tests: [{name: last, profile: noop}]");
    let _worker = world.worker("w1", &["--concurrency", "1"]);
    assert_counts(&world.complete(&last), 1, [1, 0, 0, 0]);
    assert_counts(&world.complete(RUN), 3, [3, 0, 0, 0]);
    assert_eq!(world.results(RUN).len(), 3);
    let runs = world.augur(&["run", "list", "--format", "json"]).json();
    assert_eq!(runs.as_array().map(Vec::len), Some(2), "{runs:#}");
}

#[test]
fn history_is_exported_and_read_without_the_broker() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let run = world.submit("tests: [{name: nothing, profile: noop, repeat: 5}]");
    world.complete(&run);
    let exported = world.augur(&["result", "export", "--output", "history"]).expect(0);
    assert!(exported.contains("6 messages") && exported.contains(".parquet"), "{exported}");
    let again = world.augur(&["result", "export", "--output", "history"]).expect(0);
    assert!(again.contains("nothing is new"), "{again}");

    world.augur(&["result", "replay", "--archive", "history", "--into", "fresh.duckdb", "--compare"]).expect(0);
    let other = world.submit("tests: [{name: nothing, profile: noop}]");
    world.complete(&other);
    let one = ["result", "replay", "--from", "first", "--run", &other, "--into", "one.duckdb"];
    let replayed = world.augur(&one).expect(0);
    assert!(replayed.contains("8 messages replayed") && replayed.contains("1 results, 1 of them new"), "{replayed}");
    let refused = world.augur(&[&one[..], &["--compare"]].concat());
    assert!(refused.code == Some(2) && refused.stderr.contains("leave --run out"), "{refused:?}");
    let endless = ["result", "replay", "--from", "first", "--into", "one.duckdb", "--follow", "--compare"];
    let refused = world.augur(&endless);
    assert!(refused.code == Some(2) && refused.stderr.contains("give --until"), "{refused:?}");
    world.set("AUGUR_AMQP_URL", "");
    let archived = ["result", "replay", "--archive", "history", "--run", &run, "--format", "json"];
    let lines = world.augur(&archived).expect(0);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert!(lines.len() == 5 && lines.iter().all(|line| text(line, "status") == "passed"), "{lines:#?}");
    // Offsets may have gaps, so the first result's is taken from the answer.
    let first = lines[0]["offset"].to_string();
    let one = world.augur(&[&archived[..], &["--until", &first]].concat()).expect(0);
    assert_eq!(one.lines().count(), 1, "{one}");
}
