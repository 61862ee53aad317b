//! Tests of the created process, and of what it inherits from the daemon.

use super::*;

#[test]
fn a_helper_says_and_ends_as_it_does() {
    for watch in WATCHES {
        let rig = Rig::with(Settings::default(), watch);
        let ran = rig.ran(sh(1, "echo out; echo err >&2; exit 3"));
        assert_eq!((&*ran.stdout, &*ran.stderr), ("out\n", "err\n"));
        assert_eq!((ran.status, ran.cause), (Status::Code(3), Cause::Itself));
        assert_eq!(ran.unheard, Unheard::default());
        let ran = rig.ran(sh(2, "kill -9 $$"));
        assert_eq!((ran.status, ran.cause), (Status::Signal(9), Cause::Itself));
    }
}

#[test]
fn what_cannot_be_run_is_refused() {
    let rig = Rig::new();
    let with = |argv: &[&str]| rig.refused(run(1, argv));
    assert_eq!(with(&[]), Refusal::Malformed);
    assert_eq!(with(&["sh"]), Refusal::Malformed);
    assert_eq!(with(&["/bin/sh", "-c", "echo \0"]), Refusal::Malformed);
    assert_eq!(with(&["/bin/no-such-program"]), Refusal::Missing);
    assert_eq!(with(&["/etc/passwd"]), Refusal::Denied);
    assert_eq!(with(&["/etc"]), Refusal::Denied);
    // E2BIG: one argument may have 128 KiB at most.
    let long = "x".repeat(1 << 20);
    assert_eq!(with(&["/bin/sh", "-c", ":", &long]), Refusal::Failed(Errno(7)));
    for name in ["", "A=B", "A\0"] {
        let env = [(Box::from(name), Box::from("value"))].into();
        assert_eq!(rig.refused(Spawn { env, ..sh(1, ":") }), Refusal::Malformed, "{name:?}");
    }
    let configured = Spawn { origin: Origin::Configured, ..sh(1, ":") };
    assert_eq!(rig.refused(configured), Refusal::Elsewhere);
    // None of these failures prevents the next helper from being run.
    assert_eq!(rig.ran(sh(2, ":")).status, Status::Code(0));
}

#[test]
fn a_helper_has_the_environment_that_it_is_given() {
    let env = [("B", "two words"), ("LANG", "C")].map(|(name, value)| (name.into(), value.into()));
    let ran = Rig::new().ran(Spawn { env: env.into(), ..run(1, &["/usr/bin/env"]) });
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["B=two words", "LANG=C", path]);
}

#[test]
fn a_helper_is_called_as_it_was_named() {
    let rig = Rig::new();
    let ran = rig.ran(run(1, &["/bin/../bin/sh", "-c", "echo $0; pwd; ulimit -Sn"]));
    assert_eq!(ran.stdout, "/bin/../bin/sh\n/\n1024\n");
}

#[test]
fn a_helper_leads_a_process_group_of_its_own() {
    let ran = Rig::new()
        .ran(sh(1, "read -r pid name state parent group more < /proc/$$/stat; echo $pid $group"));
    let (pid, group) = ran.stdout.trim_end().split_once(' ').unwrap();
    assert_eq!(pid, group);
    assert!(!lives(pid), "no zombie is left");
}

/// Rust programs ignore SIGPIPE. A helper that ignored it would continue to write to a closed pipe.
#[test]
fn a_helper_has_no_signal_blocked_and_minds_a_broken_pipe() {
    let masks = |status: &str| -> [u64; 2] {
        ["SigBlk:", "SigIgn:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        })
    };
    const SIGPIPE: u64 = 1 << (13 - 1);
    let [_, ours] = masks(&fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(ours & SIGPIPE, SIGPIPE);
    let ran = Rig::new().ran(run(1, &["/bin/cat", "/proc/self/status"]));
    let [blocked, ignored] = masks(&ran.stdout);
    assert_eq!((blocked, ignored & SIGPIPE), (0, 0));
}

/// A helper inherits neither descriptors that were opened without `O_CLOEXEC` nor the pipes of helpers that
/// are started at the same time. A pipe whose other end an unrelated process has open never reaches its end.
#[test]
fn a_helper_has_no_file_but_its_own_three() {
    let careless = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let rig = Rig::new();
    for id in 0..20 {
        let stdin = Bytes::from("x");
        rig.spawn(Spawn { stdin, ..run(id, &["/bin/ls", "/proc/self/fd"]) });
    }
    let mut said = BTreeMap::<ExecId, String>::new();
    let mut ended = 0;
    while ended < 20 {
        match rig.next() {
            Event::Output { id, bytes, .. } => {
                said.entry(id).or_default().push_str(&String::from_utf8_lossy(&bytes));
            }
            Event::Exited { .. } => ended += 1,
            Event::Started { .. } => {}
            other @ Event::Refused { .. } => panic!("{other:?}"),
        }
    }
    drop(careless);
    for files in said.values() {
        // The last descriptor is that of the folder that is read.
        assert_eq!(files, "0\n1\n2\n3\n");
    }
}

/// The daemon may have more open files than the limit of a helper permits.
#[test]
fn a_helper_of_a_daemon_with_many_files_has_none_of_them_either() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|max| max < 4096) {
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let many: Vec<_> = (0..1100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let careless = many.last().unwrap();
    rustix::io::fcntl_setfd(careless, rustix::io::FdFlags::empty()).unwrap();
    let ran = Rig::new().ran(run(1, &["/bin/ls", "/proc/self/fd"]));
    assert_eq!(&*ran.stdout, "0\n1\n2\n3\n");
}

#[test]
fn no_more_run_than_may() {
    let settings = Settings { running_max: 8, ..Settings::default() };
    let rig = Rig::with(settings, ended::watch);
    for id in 0..1000 {
        rig.spawn(sh(id, "read x"));
    }
    let (mut started, mut refused, mut ended) = (0, 0, 0);
    while ended < started || started + refused < 1000 {
        match rig.next() {
            Event::Started { .. } => started += 1,
            Event::Refused { why, .. } => {
                assert_eq!(why, Refusal::TooMany);
                refused += 1;
            }
            Event::Exited { status, .. } => {
                assert_eq!(status, Status::Code(1));
                ended += 1;
            }
            other @ Event::Output { .. } => panic!("{other:?}"),
        }
    }
    assert!(started >= 8, "{started}");
}

/// No code waits for any child. So these children do not take the exit codes of the helpers, nor the reverse.
#[test]
fn exit_codes_go_to_whom_they_belong() {
    for watch in WATCHES {
        let rig = Rig::with(Settings { running_max: 200, ..Settings::default() }, watch);
        let beside = thread::spawn(|| {
            for n in 0..200 {
                let script = format!("exit {n}");
                let status = StdCommand::new("/bin/sh").args(["-c", &script]).status().unwrap();
                assert_eq!(status.code(), Some(n));
            }
        });
        for id in 0..200 {
            rig.spawn(sh(id, &format!("exit {id}")));
        }
        let mut ended = 0;
        while ended < 200 {
            if let Event::Exited { id: ExecId(id), status, .. } = rig.next() {
                assert_eq!(status, Status::Code(i32::try_from(id).unwrap()));
                ended += 1;
            }
        }
        beside.join().unwrap();
    }
}
