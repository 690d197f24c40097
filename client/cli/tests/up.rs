//! `store up` as people and scripts use it: the real command, real roles, real files. Proves that it is ready
//! when `store.env` is there, keeps data and keys over orderly stops and kill -9, that a killed role stays down
//! until it is started again, and that what goes wrong is said in one line.
#![allow(missing_docs)]
#![allow(clippy::disallowed_methods)] // looks at real processes and files

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const STORE: &str = env!("CARGO_BIN_EXE_store");
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster in a directory of its own; killed when the test ends, however it ends.
struct Up {
    child: Child,
    dir: PathBuf,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for line in fs::read_to_string(self.dir.join("pids")).unwrap_or_default().lines() {
            let pid = line.rsplit(' ').next().unwrap_or_default();
            let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
        }
    }
}

fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STORE_")) {
        command.env_remove(name);
    }
    command
}

impl Up {
    fn start(dir: &Path, flags: &[&str]) -> Up {
        let _ = fs::remove_file(dir.join("store.env")); // one of a killed cluster
        let log = fs::File::create(dir.join("up.out")).expect("a file for the output");
        let child = clean(&mut Command::new(STORE))
            .args(["up", "--ports", "auto", "--dir"])
            .arg(dir)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("another handle"))
            .stderr(log)
            .spawn()
            .expect("the command starts");
        let mut up = Up { child, dir: dir.to_path_buf() };
        let until = Instant::now() + PATIENCE;
        while !dir.join("store.env").exists() {
            let ended = up.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < until, "{}", up.output());
            std::thread::sleep(Duration::from_millis(10));
        }
        up
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.join("up.out")).unwrap_or_default()
    }

    /// Whether it says so, now or soon: the file that says that it is ready is there a moment earlier.
    fn says(&self, text: &str) -> bool {
        let until = Instant::now() + PATIENCE;
        while !self.output().contains(text) {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn env(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.dir.join("store.env")).expect("it is ready");
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn store(&self, args: &[&str]) -> Output {
        let mut command = Command::new(STORE);
        clean(&mut command).args(args).envs(self.env()).output().expect("the command runs")
    }

    /// Standard output of a command that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.store(args);
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{error}\n{}", self.output());
        out
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).expect("JSON")
    }

    fn signal(&mut self, name: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
        self.child.wait().expect("it ends").code()
    }

    fn pid_of(&self, role: &str) -> String {
        let text = fs::read_to_string(self.dir.join("pids")).expect("there");
        let line = text.lines().find_map(|line| line.strip_prefix(role)).expect("the role");
        line.trim().to_string()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn one_process_keeps_data_and_keys_over_stops_and_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut up = Up::start(dir.path(), &[]);
    let env = up.env();
    let names: Vec<_> = env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "STORE_MONITORS",
            "STORE_S3_ENDPOINT",
            "STORE_ADMIN_ENDPOINT",
            "AWS_ENDPOINT_URL",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_DEFAULT_REGION",
            "ST_AUTH",
            "ST_USER",
            "ST_KEY",
        ]
    );
    let mode = fs::metadata(dir.path().join("store.env")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (_, value) in &env[..6] {
        assert!(up.says(value), "it says what the file says: {value}");
    }

    let again = clean(&mut Command::new(STORE)).args(["up", "--dir"]).arg(dir.path()).output();
    let again = again.expect("it runs");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("in use by pid"), "{}", text(&again.stderr));
    assert!(dir.path().join("store.env").exists(), "the refused one has not touched it");

    up.ok(&["pool", "create", "p"]);
    up.ok(&["wait", "health=ok", "--timeout", "60s"]);
    let file = dir.path().join("data");
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    fs::write(&file, &data).expect("written");
    let file = file.to_str().expect("a plain path");
    up.ok(&["object", "put", "p", "plain", file]);
    up.ok(&["object", "put", "p", "striped", file, "--striped"]);
    up.ok(&["object", "put", "p", "empty", "-"]);
    assert_eq!(up.json(&["object", "stat", "p", "empty"])["size"], 0, "a pipe that brings nothing");
    let check = |up: &Up| {
        for object in ["plain", "striped"] {
            let back = dir.path().join("back");
            up.ok(&["object", "get", "p", object, back.to_str().expect("a plain path")]);
            assert!(fs::read(&back).expect("there") == data, "{object} came back as it went");
        }
        assert_eq!(up.env(), env, "the same keys and ports");
    };
    check(&up);
    assert_eq!(up.signal("-TERM"), Some(0));
    assert!(!dir.path().join("store.env").exists());
    let mut up = Up::start(dir.path(), &[]);
    check(&up);
    assert_eq!(up.signal("-KILL"), None);
    let mut up = Up::start(dir.path(), &[]);
    check(&up);
    up.ok(&["wait", "health=ok", "--timeout", "60s"]);

    // Ends that scripts can tell apart.
    let code = |args: &[&str]| up.store(args).status.code();
    assert_eq!(code(&["object", "stat", "p", "nothing"]), Some(3));
    assert_eq!(code(&["pool", "get", "nothing"]), Some(3));
    assert_eq!(code(&["pool", "rm", "p"]), Some(4));
    assert_eq!(code(&["pool", "set", "p", "size", "99"]), Some(2));
    assert_eq!(code(&["wait", "osds=9", "--timeout", "300ms"]), Some(5));
    up.ok(&["pool", "rm", "p", "--yes-i-really-mean-it"]);
    assert_eq!(code(&["pool", "get", "p"]), Some(3));

    // Every table has a JSON form, and no colour off a terminal.
    for args in [
        &["status"][..],
        &["health", "detail"],
        &["df"],
        &["osd", "tree"],
        &["osd", "df"],
        &["osd", "ls"],
        &["pool", "ls", "--detail"],
        &["pool", "stats"],
        &["pg", "ls"],
        &["pg", "stat"],
        &["user", "ls"],
        &["user", "info", "admin"],
        &["config", "get"],
        &["config", "dump"],
        &["service", "ls"],
        &["version", "--cluster"],
    ] {
        assert!(!up.json(args).is_null(), "{args:?}");
        assert!(!up.ok(args).contains('\x1b'), "{args:?}");
    }
    assert_eq!(up.json(&["status"])["osdmap"]["num_up_osds"], 3);
    assert_eq!(up.signal("-INT"), Some(0));
}

#[test]
fn a_killed_role_stays_down_until_it_is_started_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut up = Up::start(dir.path(), &["--processes"]);
    let at = dir.path().to_str().expect("a plain path");
    let pids = fs::read_to_string(dir.path().join("pids")).expect("there");
    assert_eq!(pids.lines().count(), 6, "{pids}");
    up.ok(&["pool", "create", "p"]);
    up.ok(&["wait", "health=ok", "--timeout", "60s"]);

    let first = up.pid_of("daemon 1");
    Command::new("kill").args(["-9", &first]).status().expect("kill");
    up.ok(&["object", "put", "p", "o", "/proc/self/status"]);
    assert!(!alive(&first));
    assert_eq!(up.store(&["role", "stop", "daemon", "1", "--dir", at]).status.code(), Some(3));
    up.ok(&["role", "start", "daemon", "1", "--dir", at]);
    let second = up.pid_of("daemon 1");
    assert!(alive(&second) && first != second);
    up.ok(&["wait", "health=ok", "--timeout", "60s"]);
    assert!(up.says("daemon 1"), "it said so: {}", up.output());

    // The command line in the file does the same.
    up.ok(&["role", "stop", "daemon", "2", "--dir", at]);
    let commands = fs::read_to_string(dir.path().join("commands")).expect("there");
    let line = commands.lines().find_map(|line| line.strip_prefix("daemon 2 ")).expect("a command");
    let mut by_hand = Command::new("sh");
    by_hand.args(["-c", &format!("exec {line}")]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut by_hand = by_hand.spawn().expect("it starts");
    up.ok(&["wait", "osds=3", "health=ok", "--timeout", "60s"]);
    assert_eq!(up.pid_of("daemon 2"), by_hand.id().to_string());

    // What others started again is stopped too. Nobody is told to start it again, and no daemon is taken for down.
    let log = dir.path().join("log/monitor.a.log");
    let taken_down = || fs::read_to_string(&log).expect("a log").matches("is down").count();
    let (said, down) = (up.output(), taken_down());
    assert!(said.contains("start it again") && down > 0, "{said}");
    assert_eq!(up.signal("-TERM"), Some(0));
    assert_eq!(up.output(), said);
    assert_eq!(taken_down(), down);
    assert!(by_hand.wait().expect("it ended").success());
    assert!(!alive(&second));

    // Roles end with a supervisor that is killed, and the next one goes on.
    let mut up = Up::start(dir.path(), &["--processes"]);
    let pids: Vec<String> = fs::read_to_string(dir.path().join("pids"))
        .expect("there")
        .lines()
        .filter_map(|line| line.rsplit(' ').next().map(str::to_string))
        .collect();
    up.signal("-KILL");
    let up = Up::start(dir.path(), &["--processes"]);
    assert!(pids.iter().all(|pid| !alive(pid)));
    up.ok(&["object", "get", "p", "o"]);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let run = |args: &[&str]| {
        let output = clean(&mut Command::new(STORE))
            .args(args)
            .current_dir(dir.path())
            .output()
            .expect("it runs");
        let said = text(&output.stderr);
        assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
        (output.status.code(), said)
    };
    let (code, said) = run(&["up", "--base-port", &port]);
    assert!(code == Some(1) && said.contains(&port) && said.contains("--ports auto"), "{said}");
    fs::write(dir.path().join("file"), "").expect("written");
    let (code, said) = run(&["up", "--dir", "file"]);
    assert!(code == Some(1) && said.contains("not a directory"), "{said}");
    let (code, said) = run(&["up", "--dir", "/proc/store"]);
    assert!(code == Some(1) && said.contains("/proc/store"), "{said}");
    let (code, said) = run(&["status"]);
    assert!(code == Some(2) && said.contains("store up"), "{said}");
    let (code, said) = run(&["--monitors", "127.0.0.1:1", "status"]);
    assert!(code == Some(5) && said.contains("refused"), "{said}");
    let (code, said) = run(&["--monitors", "192.0.2.1:1", "status", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert!(code == Some(1) && error["exit_code"] == 1, "{said}");
}
