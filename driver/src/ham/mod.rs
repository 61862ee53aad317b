//! `ham`, the HA messenger: plays a Motr process by command, over a real link.
//!
//! Its input are commands in text ([`command`]), its output are lines of JSON ([`json`]). [`Ham`] executes
//! the commands on a process's side of the wire and prints the events.

pub mod command;
pub mod json;
pub mod script;
mod session;

pub use session::{Ham, Input, Output};

/// The pid that a process reports by default.
pub const PID: u64 = 1000;

/// The text of `hax ham --help`.
pub const HELP: &str = "\
Play a Motr process: speak its part over an HA link.

Each COMMAND is one argument, or one line of standard input if there are none.
They are worked one after another; when the last is done the link is ended
politely. What comes is acknowledged and printed as one JSON object a line on
standard output.

  entrypoint                     ask for the entrypoint, again while it is refused: the
                                 wire knows no rc, a refusal has the control `query`
  process EVENT [type=T] [pid=N] report starting, started, stopping, stopped or
                                 dtm-recovered; T is m0d, mkfs, other or kernel
  service EVENT [type=N] [pid=N] report starting, started, stopping, stopped or
                                 failed
  nvec-get FID...                ask for states
  nvec-set FID=STATE...          say states: online, failed, transient, repair, ...
  failvec [POOL]                 ask for the failure vector
  stob-ioq [SDEV]                report a failed I/O request
  rpc                            report a peer that does not answer
  keepalive, be-io-err, sns-err  send what hax must not be sent: it stops with
                                 exit code 4
  wait SECONDS                   do nothing for a while
  wait-delivered                 wait until all that was sent is delivered
  wait-message [KIND]            wait for one more message, for example of kind NVEC
  stop                           end the link politely and exit
  quit                           exit as a killed process does

Example, for a hax at 127.0.0.1 whose m0conf has this process; `hax demo --for 5m`
prints one with its own addresses, to be tried as it is:
  hax ham --connect inet:stream:127.0.0.1@22001 \\
      --listen inet:stream:127.0.0.1@22002 --fid 0x7200000000000001:0x4 \\
      entrypoint 'process starting' 'process started' 'wait 2'";

/// `ham`'s exit codes, as `--help` shows them.
pub const EXITS: &str = "\
Exit codes:
  0    all commands were executed
  1    the time limit was over, the peer broke the protocol, or what was sent is
       not delivered
  2    a flag or a command is wrong
  3    cannot listen at its own endpoint
  130  SIGTERM or SIGINT";
