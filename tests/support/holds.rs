//! Jobs that say when they start and then run until the test lets them go.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
};

use super::LIMIT;

/// What a held job does. It prints what it is, and holds a pipe of its own open for as long as it lives.
const SCRIPT: &str = r#"mkfifo "alive-$$" && exec 9<>"alive-$$" && echo "holding $AUGUR_TEST_METHOD" &&
    echo "$AUGUR_TEST_METHOD $$" >started && read -r _ <gate"#;

/// The jobs of the runner profile `hold`.
#[derive(Debug)]
pub(crate) struct Holds {
    directory: PathBuf,
    gate: File,
    started: Mutex<Receiver<String>>,
}

/// A held job's process.
#[derive(Debug)]
pub(crate) struct Held {
    /// The job's test method, by which tests tell them apart.
    pub(crate) name: String,
    alive: File,
}

impl Holds {
    /// Makes the pipes in `directory`; returns with them the settings that define the profile.
    pub(crate) fn new(directory: &Path) -> (Self, String) {
        std::fs::create_dir_all(directory).expect("a directory");
        let pipe = |name: &str| {
            let path = directory.join(name);
            let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo of coreutils");
            assert!(made.success());
            // For reading and writing: opening it waits for nobody, and it never ends.
            OpenOptions::new().read(true).write(true).open(path).expect("a pipe")
        };
        let (gate, lines) = (pipe("gate"), pipe("started"));
        let (sender, started) = channel();
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let profile = format!(
            "[worker.profiles.hold]\nrunner = \"command\"\nenabled = true\nprogram = \"/bin/sh\"\n\
             arguments = [\"-c\", '''{SCRIPT}''']\nworking_directory = \"{}\"\n",
            directory.display()
        );
        (Self { directory: directory.to_owned(), gate, started: Mutex::new(started) }, profile)
    }

    /// Waits until a worker has started one, and returns it.
    #[track_caller]
    pub(crate) fn next(&self) -> Held {
        let line = self.started.lock().expect("not poisoned").recv_timeout(LIMIT).expect("a held job starts");
        let (name, pid) = line.split_once(' ').expect("name and process id");
        let path = self.directory.join(format!("alive-{pid}"));
        // Opening waits for the other end, for ever if that has just ended.
        let (sender, opened) = channel();
        thread::spawn(move || sender.send(File::open(path)));
        let alive = opened.recv_timeout(LIMIT).expect("it lives still").expect("a pipe");
        Held { name: name.to_owned(), alive }
    }

    /// Lets this many end, those that run now or those that come.
    pub(crate) fn let_go(&self, count: usize) {
        (&self.gate).write_all(&vec![b'\n'; count]).expect("a pipe");
    }
}

impl Held {
    /// Waits until its process is gone.
    #[track_caller]
    pub(crate) fn gone(mut self) {
        let (sender, ended) = channel();
        thread::spawn(move || sender.send(self.alive.read_to_end(&mut Vec::new()).map(drop)));
        ended.recv_timeout(LIMIT).expect("its process ends").expect("a pipe");
    }
}
