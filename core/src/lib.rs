//! The HA bridge between Motr and Consul, as pure state machines.
//!
//! No code in this crate opens a socket, reads a clock or starts a thread. A [`Machine`](machine::Machine)
//! takes one [`Input`](machine::Input) at a time and appends the resulting [`Output`](machine::Output)s. A
//! *host* owns the sockets and clocks and drives the machine. The bridge together with the wire is one such
//! machine ([`node`]). The discovery of the own node's identity is another ([`discover`]).
//!
//! # The host's obligations
//!
//! - **One call at a time.** Each call carries the current values of both clocks. The monotonic clock never
//!   goes backwards; a machine panics if it does.
//! - **An initial [`Tick`](machine::Input::Tick)**, sent at once. It starts the machine.
//! - **Outputs are executed in their order.** The host starts each one and does not wait for it. The result
//!   arrives as an input, through one bounded inbox. After a [`Cancel`](consul::port::Command::Cancel) the
//!   host need not deliver a reply to that call; a reply that was already on its way may still arrive.
//! - **State is kept in order.** A [`state`] command is carried out before the outputs that follow it, and the
//!   values that a life leaves behind are in the configuration of the next one.
//! - **Exactly one result** for each request that has one: one [`Reply`](consul::port::Reply) per call, also
//!   if Consul did not respond in time; one end for each connection, program and file, and for each HTTP
//!   response that was left open; one answer to each request to the keeper. Each call states its time limit
//!   and the maximum size of its response.
//! - **A tick at the deadline.** [`WaitUntil`](base::time::Next::WaitUntil) gives the earliest time of the
//!   next tick. A late tick is harmless. Due timers fire in every call, so a full inbox cannot starve them.
//! - **[`Stop`](machine::Input::Stop) once**, when the machine is to end. The machine finishes the work in
//!   progress and returns [`Exit`](base::time::Next::Exit). The outputs of that call are the last ones; the
//!   host executes them too. The host need not deliver inputs after that; the machine ignores them.
//!
//! # The machine's guarantees
//!
//! - `handle` never blocks, never fails, and does not panic on any input from the network.
//! - A returned deadline is later than the call. After [`Exit`](base::time::Next::Exit) every call returns
//!   `Exit` and appends nothing.
//! - **Exactly one [`Response`](http::port::Response)** to each HTTP request and [one](fifo::Response) to
//!   each request over named pipes, at the latest at the exit. Requests that arrive too late for the exit get
//!   none. A response that stays open has one [`Begin`](http::stream::Begin) instead. Commands for it after
//!   its [`Closed`](http::stream::Closed) are ignored, since the two may cross. The host ends the responses
//!   that are still open at the exit.
//! - The same inputs and clocks produce the same outputs: randomness comes from a seed in the configuration.
//! - The memory in use is bounded by the limits in the configuration.
//!
//! # The shape of a machine
//!
//! A machine keeps its calls, timers and limits in a [`Kept`](machine::Kept) and gets a
//! [`Cx`](machine::Cx) from it in each call of `handle`. A reply of Consul is matched with the
//! continuation of its call ([`Cx::take`](machine::Cx::take), [`Cx::outcome`](machine::Cx::outcome))
//! and handled; the other inputs are dispatched by their kind. Then the due timers are handled one by one
//! ([`Cx::next_due`](machine::Cx::next_due)), and the result is [`Kept::next`](machine::Kept::next).
//! Beside `handle` the host asks for the machine's gauges and status after each call, for its number of
//! blocking queries at the start, and for the reason of its exit. The shortest machine, with a lease, one
//! HTTP route and its test in the simulator, is `sim/tests/small.rs`.
//!
//! # Who assigns ids
//!
//! Ids are counters and are never reused within one run ([`base::id`]). The host assigns the ids of events
//! from outside: requests and accepted connections. The machine assigns the ids of its own requests: calls,
//! outgoing connections, helper programs, files. A call's id contains the id of its machine, so two machines
//! behind one host cannot take each other's replies from Consul. The other ids do not: of two machines behind
//! one host, one has the sockets, the programs and the files.
//!
//! # Example
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
//! // The machine reads hax's entry from Consul; the host must deliver the reply.
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
//! `examples/blocking.rs` is a complete host in a hundred lines.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::alloc_instead_of_core, clippy::std_instead_of_alloc)]
// A new variant must be considered at every place that distinguishes the variants.
#![warn(clippy::wildcard_enum_match_arm)]

extern crate alloc;

// Dependencies point downwards only: a module uses the modules below it in this list.
pub mod discover;

pub mod journal;
pub mod with_services;

pub mod node;

pub mod bridge;
pub mod wire;

pub mod cluster;

pub mod route;
pub mod services;

pub mod store;

pub mod machine;

pub mod http;

pub mod consul;

pub mod net;

pub mod ha;

pub mod keeper;

pub mod exec;
pub mod fifo;
pub mod file;
pub mod state;

pub mod base;
