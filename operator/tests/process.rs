//! `certmon run` as a process, where no API server is needed: its flags and variables, its first lines, and what it says
//! while the API server can't be had.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(30);

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "certmon-process-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn kubeconfig(&self, server: &str) -> String {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: '{server}'}}}}]\nusers: [{{name: a, user: {{token: canary7f3a}}}}]\n"
        );
        self.file("kubeconfig", &text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Accepts and closes, and tells of each who came. As an API server's place where nothing answers.
fn closes() -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, came) = mpsc::channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(stream);
            if tell.send(()).is_err() {
                return;
            }
        }
    });
    (url, came)
}

/// Where nobody listens: a port that was taken and given back.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certmon"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CERTMON_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command
        .arg("run")
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", "/nonexistent")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Runs until it ends by itself, which it must with a failure; returns what it said.
fn refuses(with: impl FnOnce(&mut Command)) -> String {
    let mut command = command();
    command.env("CERTMON_LISTEN", "127.0.0.1:0");
    with(&mut command);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(!said.contains("canary7f3a"), "{said}");
    said
}

/// A process that runs; killed when dropped.
struct Running {
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
}

impl Running {
    fn start(with: impl FnOnce(&mut Command)) -> Self {
        let mut command = command();
        command.env("CERTMON_LISTEN", "127.0.0.1:0");
        with(&mut command);
        let mut child = command.spawn().unwrap();
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (stderr, written) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                *written.0.lock().unwrap() += &format!("{line}\n");
                written.1.notify_all();
            }
        });
        Self { child, log }
    }

    /// Waits until the log is as it should be, and returns it.
    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let (log, ended) = self
            .log
            .1
            .wait_timeout_while(self.log.0.lock().unwrap(), SOON, |log| !is(log))
            .unwrap();
        assert!(!ended.timed_out(), "not {what}:\n{log}");
        assert!(!log.contains("canary7f3a"), "{log}");
        log.clone()
    }

    /// The first line, which says how it runs.
    #[track_caller]
    fn first_line(&self) -> String {
        let log = self.until("started", |log| log.contains("certmon starts"));
        log.lines()
            .find(|line| line.contains("certmon starts"))
            .unwrap()
            .to_owned()
    }

    /// A metric's value.
    fn metric(&self, name: &str) -> Option<String> {
        let line: serde_json::Value = serde_json::from_str(&self.first_line()).unwrap();
        let mut stream = TcpStream::connect(line["fields"]["listen"].as_str().unwrap()).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = |line: &str| Some(line.strip_prefix(name)?.trim().to_owned());
        text.lines().find_map(value)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn its_first_line_says_how_it_runs_by_default() {
    let (folder, server) = (Folder::new(), nobody());
    let kubeconfig = folder.kubeconfig(&format!("{}/path", server.replace("://", "://user:canary7f3a@")));
    let identities = [0, 1].map(|_| {
        let running = Running::start(|command| {
            command.args(["--kubeconfig", &kubeconfig]);
        });
        let line = running.first_line();
        // For people: no JSON, and no colours where no terminal is.
        assert!(!line.contains(['{', '\u{1b}']) && line.contains(" INFO "), "{line}");
        for part in [
            format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
            format!("api_server=\"{server}\""),
            "scope=\"all namespaces\"".to_owned(),
            "egress_policy=\"built-in policy\"".to_owned(),
            "listen=127.0.0.1:".to_owned(),
        ] {
            assert!(line.contains(&part), "no {part} in: {line}");
        }
        let identity = line.split("identity=\"").nth(1).and_then(|rest| rest.split('"').next());
        identity.unwrap_or_else(|| panic!("{line}")).to_owned()
    });
    assert_ne!(identities[0], identities[1]);
    for identity in identities {
        assert!(
            identity.len() == 32 && identity.bytes().all(|b| b.is_ascii_hexdigit()),
            "random: {identity}"
        );
    }
}

#[test]
fn every_flag_may_be_given_as_a_variable() {
    let help = Command::new(env!("CARGO_BIN_EXE_certmon"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags: Vec<_> = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--")?.split(' ').next())
        .collect();
    assert_eq!(flags.len(), 10, "{flags:?}");
    for flag in &flags {
        let variable = format!("[env: CERTMON_{}=]", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&variable), "{variable}");
    }
    // What can be seen from outside.
    let folder = Folder::new();
    let kubeconfig = folder.kubeconfig(&nobody());
    let policy = folder.file("policy.yaml", "{}");
    let running = Running::start(|command| {
        command
            .env("CERTMON_KUBECONFIG", &kubeconfig)
            .env("CERTMON_WATCH_NAMESPACE", "shop,blog")
            .env("CERTMON_EGRESS_POLICY", &policy)
            .env("CERTMON_LISTEN", "127.0.0.2:0")
            .env("CERTMON_LOG_FORMAT", "json")
            .env("CERTMON_CLUSTER_NAME", "prod-eu")
            .env("CERTMON_IDENTITY", "pod-7")
            .env("CERTMON_DNS_SERVER", "127.0.0.1:53")
            .env("CERTMON_SMTP_HELO", "certmon.example.com");
    });
    let line: serde_json::Value = serde_json::from_str(&running.first_line()).unwrap();
    let fields = &line["fields"];
    assert_eq!(fields["scope"], "shop, blog");
    assert_eq!(fields["egress_policy"], *policy);
    assert_eq!(fields["cluster"], "prod-eu");
    assert_eq!(fields["identity"], "pod-7");
    assert!(fields["listen"].as_str().unwrap().starts_with("127.0.0.2:"), "{line}");
    // The level: the first line is there at info, and not at warn.
    let running = Running::start(|command| {
        command
            .env("CERTMON_KUBECONFIG", &kubeconfig)
            .env("CERTMON_LOG_LEVEL", "warn");
    });
    let log = running.until("away", |log| log.contains("the API server can't be reached"));
    assert!(!log.contains("certmon starts"), "{log}");
    // What isn't seen from outside is read, and refused by its flag's name where it is wrong.
    for (variable, flag) in [
        ("CERTMON_DNS_SERVER", "--dns-server"),
        ("CERTMON_SMTP_HELO", "--smtp-helo"),
        ("CERTMON_LISTEN", "--listen"),
        ("CERTMON_LOG_FORMAT", "--log-format"),
        ("CERTMON_LOG_LEVEL", "--log-level"),
    ] {
        let said = refuses(|command| {
            command
                .env("CERTMON_KUBECONFIG", &kubeconfig)
                .env(variable, "no such !");
        });
        assert!(said.contains(flag), "{variable}: {said}");
    }
}

#[test]
fn a_namespace_may_be_named_several_times_and_a_flag_wins_over_its_variable() {
    let folder = Folder::new();
    let kubeconfig = folder.kubeconfig(&nobody());
    let running = Running::start(|command| {
        command
            .args(["--kubeconfig", &kubeconfig, "--log-format", "text"])
            .args([
                "--watch-namespace",
                "shop",
                "--watch-namespace=blog",
                "--watch-namespace",
                "a,b",
            ])
            .env("CERTMON_WATCH_NAMESPACE", "other")
            .env("CERTMON_LOG_FORMAT", "json");
    });
    let line = running.first_line();
    assert!(
        line.contains("scope=\"shop, blog, a, b\"") && !line.contains('{'),
        "{line}"
    );
}

#[test]
fn a_kubeconfig_that_can_t_be_used_is_named_with_the_cause() {
    let folder = Folder::new();
    let absent = folder.0.join("absent").display().to_string();
    let directory = folder.0.display().to_string();
    let broken = folder.file("broken", "users:\n- name: a\n  user: {token: canary7f3a\n");
    let wrong = folder.file("wrong", "users: [{name: a, user: {token: [canary7f3a]}}]\n");
    let empty = folder.file("empty", "");
    let context = folder.file("context", "apiVersion: v1\nkind: Config\ncurrent-context: gone\n");
    for (file, cause) in [
        (&absent, "can't be read: No such file"),
        (&directory, "can't be read: "),
        (&broken, "is no kubeconfig in YAML (line "),
        (&wrong, "is no kubeconfig in YAML (line "),
        (&empty, "can't be used: "),
        (&context, "can't be used: "),
    ] {
        for variable in ["CERTMON_KUBECONFIG", "KUBECONFIG"] {
            let said = refuses(|command| {
                command.env(variable, file);
            });
            let expected = format!("certmon: the kubeconfig {file} {cause}");
            assert!(said.contains(&expected), "{variable}: no {expected:?} in: {said}");
        }
    }
    let said = refuses(|_| {});
    assert!(
        said.contains("neither a kubeconfig") && said.contains("ServiceAccount"),
        "{said}"
    );
}

#[test]
fn an_api_server_that_can_t_be_had_is_said_once_with_the_next_step_and_tried_again() {
    let folder = Folder::new();
    let (url, came) = closes();
    for (server, cause) in [
        (
            nobody(),
            "nothing listens there; check the server and its port in the kubeconfig",
        ),
        (
            url.clone(),
            "the connection is closed before an answer; check what stands before it",
        ),
        (
            "https://no-such-host.invalid:6443".to_owned(),
            "its host name does not resolve; check the server",
        ),
    ] {
        let kubeconfig = folder.kubeconfig(&server);
        let running = Running::start(|command| {
            command.args(["--kubeconfig", &kubeconfig]);
        });
        let log = running.until("away", |log| log.contains("WARN"));
        let line = log.lines().find(|line| line.contains("WARN")).unwrap();
        assert!(
            line.contains(&format!("the API server can't be reached: {cause}")) && line.contains(&server),
            "{line}"
        );
        if server == url {
            for _ in 0..5 {
                came.recv_timeout(SOON).expect("it is tried again");
            }
        }
        let log = running.until("away", |_| true);
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
    }
}

#[test]
fn an_egress_policy_that_is_no_policy_keeps_it_from_starting() {
    let folder = Folder::new();
    let kubeconfig = folder.kubeconfig(&nobody());
    for (text, cause) in [
        ("", ": the file is empty; write `{}`"),
        ("# later\n", ": the file is empty; write `{}`"),
        ("{}\nallow: 1\n", ":2: "),
    ] {
        let policy = folder.file("policy.yaml", text);
        let said = refuses(|command| {
            command.args(["--kubeconfig", &kubeconfig, "--egress-policy", &policy]);
        });
        assert!(said.contains(&format!("{policy}{cause}")), "{text:?}: {said}");
    }
    let absent = folder.0.join("absent").display().to_string();
    let said = refuses(|command| {
        command.args(["--kubeconfig", &kubeconfig, "--egress-policy", &absent]);
    });
    assert!(
        said.contains(&format!("--egress-policy {absent} can't be read: No such file")),
        "{said}"
    );
}

#[test]
fn an_egress_policy_that_becomes_empty_or_goes_away_leaves_the_last_good_one() {
    const GAUGE: &str = "certmon_egress_policy_last_reload_successful ";
    let folder = Folder::new();
    let kubeconfig = folder.kubeconfig(&nobody());
    let policy = folder.file("policy.yaml", "{}");
    let running = Running::start(|command| {
        command.args([
            "--kubeconfig",
            &kubeconfig,
            "--egress-policy",
            &policy,
            "--log-format=json",
        ]);
    });
    assert_eq!(running.metric(GAUGE).as_deref(), Some("1"));
    folder.file("policy.yaml", "");
    running.until("empty", |log| {
        log.contains("the file is empty") && log.contains("the last good one holds")
    });
    assert_eq!(running.metric(GAUGE).as_deref(), Some("0"));
    fs::remove_file(&policy).unwrap();
    running.until("gone", |log| log.contains("is gone"));
    assert_eq!(running.metric(GAUGE).as_deref(), Some("0"));
    folder.file("policy.yaml", "deny: []");
    running.until("taken over", |log| log.contains("the egress policy was taken over"));
    assert_eq!(running.metric(GAUGE).as_deref(), Some("1"));
}
