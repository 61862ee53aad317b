//! The HA bridge between Motr and Consul, as pure state machines.
//!
//! Nothing here opens a socket, reads a clock or starts a thread. A [`Machine`](machine::Machine) takes one
//! [`Input`](machine::Input) at a time and appends what follows from it as [`Output`](machine::Output)s;
//! a *host* has the sockets and the clocks and drives it. The bridge with its wire is one such machine
//! ([`node`]), the search for who we are another ([`discover`]).
//!
//! # What a host owes
//!
//! - **One call at a time**, each with both clocks as they are. The monotonic one never goes back; a
//!   machine panics where it does.
//! - **A first input at once**, a [`Tick`](machine::Input::Tick): it starts what is to be started.
//! - **Outputs in their order.** Each is started and not waited for; what comes of it is an input, through
//!   one bounded inbox. A host that is told [`Cancel`](consul::port::Command::Cancel) owes nothing more
//!   for that call, and what was on its way already may still come.
//! - **Exactly one answer** for whatever is owed one: a [`Reply`](consul::port::Reply) a call, also where
//!   Consul gave none in time; an end for each connection, program and file, and for each HTTP
//!   answer that was left open. How long a call may take, and
//!   how long its answer may be, stands in the call.
//! - **A tick when it is time**: [`WaitUntil`](base::time::Next::WaitUntil) names the moment, at the soonest.
//!   Late is harmless. Due timers fire in any call, so that a full inbox cannot starve them.
//! - **[`Stop`](machine::Input::Stop) once**, when the machine is to end. It finishes what it has begun and
//!   says [`Exit`](base::time::Next::Exit); the outputs of that call are the last, and are executed too.
//!   Nothing is handed to it after.
//!
//! # What a host is owed
//!
//! - `handle` never blocks, never fails, and panics on no input from the network.
//! - **Exactly one [`Response`](http::port::Response)** to each HTTP request, and [one](fifo::Response) to each
//!   that came over named pipes, at the latest at the exit but for requests that came too late for it; or one [`Begin`](http::stream::Begin), of an answer that stays
//!   open. What is said of an answer after its [`Closed`](http::stream::Closed) is ignored, since the two may
//!   cross; what is open at the exit the host ends.
//! - The same inputs and clocks give the same outputs: randomness comes from a seed in the configuration.
//! - What is kept is bounded, by the limits of the configuration.
//!
//! # Who mints which name
//!
//! Names are counters that are never reused in one life ([`base::id`]). The host names what begins outside:
//! requests and accepted connections. The machine names what it asks for: calls, connections that it
//! opens, helper programs, files. The name of a call carries its machine, so that two machines behind one
//! host cannot take each other's answers.
//!
//! # A machine in the hand
//!
//! ```
//! use hax_core::base::time::{Next, Now};
//! use hax_core::consul::port::{Answer, Command, Reply};
//! use hax_core::discover::{Config, Discovery};
//! use hax_core::machine::{Input, Machine as _, Output};
//!
//! let mut search = Discovery::new(Config { node: Some("ssu1".into()), ..Config::default() });
//! let mut out = Vec::new();
//! assert_eq!(search.handle(Now::default(), Input::Tick, &mut out), Next::Wait);
//! // It asks Consul for hax's entry: the host owes an answer.
//! let Some(Output::Consul(Command::Call(call))) = out.pop() else { panic!("it asks") };
//! assert_eq!(call.target, "/v1/catalog/service/hax");
//! let body = r#"[{"Node": "ssu1", "Address": "10.0.0.1", "ServiceID": "4", "ServicePort": 22001,
//!     "ServiceAddress": "inet:stream:10.0.0.1", "ModifyIndex": 7}]"#;
//! let answer = Answer { status: 200, index: 7, body: body.into() };
//! let reply = Input::Consul(Reply { id: call.id, result: Ok(answer) });
//! assert_eq!(search.handle(Now::default(), reply, &mut out), Next::Exit);
//! assert_eq!(&*search.into_result().unwrap().endpoint, "inet:stream:10.0.0.1@22001");
//! ```
//!
//! `examples/blocking.rs` is a whole host in a hundred lines.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::alloc_instead_of_core, clippy::std_instead_of_alloc)]
// A new variant has to be thought of wherever one is told from the others.
#![warn(clippy::wildcard_enum_match_arm)]

extern crate alloc;

// Downwards only: a module uses what stands below it in this list.
pub mod discover;

pub mod journal;
pub mod node;

pub mod bridge;
pub mod wire;

pub mod cluster;

pub mod route;

pub mod store;

pub mod machine;

pub mod http;

pub mod consul;

pub mod net;

pub mod ha;

pub mod exec;
pub mod fifo;
pub mod file;

pub mod base;
