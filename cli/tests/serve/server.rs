//! The program as a server.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::common::root;

pub(crate) struct Server {
    child: Child,
    /// Where it serves.
    pub(crate) url: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it with these arguments, on a port that is free.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same, with errors alone in its log.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_quiet(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[("RUST_LOG", "error")])
    }

    /// The id of its process.
    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(arguments);
        command.envs(environment.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let found = lines.by_ref().find_map(|line| {
            let url = line.strip_prefix("qwenguard serves on ").map(str::to_owned);
            log.lock().unwrap().push(line);
            url
        });
        let shared = log.clone();
        std::thread::spawn(move || lines.for_each(|line| shared.lock().unwrap().push(line)));
        let url = found.unwrap_or_else(|| panic!("it does not serve: {:?}", log.lock().unwrap()));
        Server { child, url, log }
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Its log, once it says this: a thread reads it, which may be late.
    pub(crate) async fn logged(&self, part: &str) -> String {
        loop {
            let log = self.log();
            if log.contains(part) {
                return log;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Whether it says a line before it serves its first request, which is made now.
    pub(crate) async fn said(&self, line: &str) -> bool {
        let body = serde_json::json!({ "input": crate::FINE });
        crate::post(&format!("{}/v1/moderations", self.url), &body).await;
        self.logged("\"/v1/moderations\"").await.lines().any(|said| said == line)
    }

    /// Asks it to end.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until it has ended.
    #[cfg(unix)]
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `qwenguard serve`, on a port that is free.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwenguard"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}
