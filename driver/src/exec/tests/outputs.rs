//! Tests of the inputs and outputs of helpers: too much, too slow, or none.

use super::*;

#[test]
fn what_is_said_too_much_is_counted_and_dropped() {
    let rig = Rig::new();
    let script = "head -c 300000 /dev/zero; head -c 7 /dev/zero >&2";
    let ran = rig.ran(Spawn { output_max: 1000, ..sh(1, script) });
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (1000, 7));
    assert_eq!(ran.unheard, Unheard { dropped: 299_000, open: false });
    assert_eq!(ran.status, Status::Code(0));
}

#[test]
fn who_writes_without_end_is_read_until_it_is_ended() {
    let rig = Rig::new();
    rig.spawn(Spawn { output_max: 4, ..sh(1, "exec yes abc") });
    assert_eq!(rig.next(), Event::Started { id: ExecId(1) });
    assert_eq!(rig.line(), "abc");
    // The output of other helpers is read meanwhile.
    assert_eq!(rig.ran(sh(2, "echo well")).stdout, "well\n");
    rig.kill(1);
    let ran = rig.ends();
    assert_eq!((ran.status, ran.cause), (Status::Signal(15), Cause::Killed));
    assert!(ran.unheard.dropped > 0);
}

#[test]
fn a_helper_reads_all_that_it_is_told_or_what_it_likes() {
    let rig = Rig::new();
    let stdin = Bytes::from(vec![b'x'; 1 << 20]);
    let with = |id, script| rig.ran(Spawn { stdin: stdin.clone(), ..sh(id, script) });
    assert_eq!(with(1, "wc -c").stdout.trim(), "1048576");
    assert_eq!(with(2, "head -c 3").stdout, "xxx");
    assert_eq!(with(3, "exit 6").status, Status::Code(6));
    let ran = with(4, "exec <&-; echo deaf");
    assert_eq!((&*ran.stdout, ran.status), ("deaf\n", Status::Code(0)));
    // The helper's input ends after the given bytes.
    assert_eq!(
        rig.ran(Spawn { stdin: Bytes::from("a\nb"), ..sh(5, "cat; echo .") }).stdout,
        "a\nb.\n"
    );
    assert_eq!(rig.ran(sh(6, "cat; echo .")).stdout, ".\n");
}

#[test]
fn a_full_inbox_holds_outputs_back_and_loses_nothing() {
    let (inbox, events) = async_channel::bounded(1);
    let exec = Exec::start(Settings::default(), inbox, |event| event).unwrap();
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    exec.execute(Command::Spawn(Box::new(sh(1, script))));
    until("it is full", || events.is_full());
    let mut said = Vec::new();
    let status = loop {
        match events.recv_blocking().unwrap() {
            Event::Output { bytes, .. } => said.extend_from_slice(&bytes),
            Event::Exited { status, unheard, .. } => {
                assert_eq!(unheard, Unheard::default());
                break status;
            }
            Event::Started { .. } => {}
            other @ Event::Refused { .. } => panic!("{other:?}"),
        }
    };
    let all: String = (0..20_000).map(|i| format!("{i}\n")).collect();
    assert_eq!(status, Status::Code(0));
    assert!(all.as_bytes() == said, "{} of {} bytes", said.len(), all.len());
}

#[test]
fn deadlines_hold_while_nobody_takes_events() {
    let (inbox, events) = async_channel::bounded(1);
    let exec = Exec::start(Settings::default(), inbox, |event| event).unwrap();
    let file = flag("deadline");
    let script = format!("echo $$ > {}; exec yes", file.display());
    let deadline = Duration::from_millis(200);
    exec.execute(Command::Spawn(Box::new(Spawn { deadline, ..sh(1, &script) })));
    let pid = || fs::read_to_string(&file).unwrap_or_default().trim_end().to_owned();
    until("it runs", || !pid().is_empty());
    until("it is ended", || !lives(&pid()));
    fs::remove_file(file).unwrap();
    assert_eq!(events.recv_blocking(), Ok(Event::Started { id: ExecId(1) }));
    let last = std::iter::from_fn(|| events.recv_blocking().ok())
        .find(|event| matches!(event, Event::Exited { .. }));
    assert!(matches!(last, Some(Event::Exited { cause: Cause::Deadline, .. })), "{last:?}");
}
