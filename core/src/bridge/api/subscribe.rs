//! Subscriptions to events: `/v1/events/subscribe` and `/unsubscribe` (`hax.md` 1.1).
//!
//! The subscriptions are a list under `events/subscription/<resource>`. A request is answered when Consul
//! holds the change.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::base::id::HttpId;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, SubscribeCall};
use crate::consul::json::{self, KvEntry};
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::consul::url;
use crate::http::answer;
use crate::machine::Pending;
use crate::store::txn::{self, Outcome};

/// The requests in progress.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Pending<PendingSubscription>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingSubscription {
    add: bool,
    tries: u32,
}

/// The only existing resource and interface.
const KEY: &str = "events/subscription/node";
const INTERFACE: &str = "health_message";
/// The maximum number of tries of a request after conflicts with other writers.
const TRIES: u32 = 5;

impl Subscriptions {
    /// Handles a request to subscribe or to unsubscribe; returns an error for an invalid body.
    pub(crate) fn on_request(
        &mut self,
        cx: &mut Cx<'_>,
        http: HttpId,
        add: bool,
        body: &[u8],
    ) -> Result<(), Box<str>> {
        let wanted: BTreeMap<String, String> = json::parse(body)?;
        for (resource, interface) in &wanted {
            if resource != "node" {
                return Err(format!("Invalid resource type({resource})").into());
            }
            if interface != INTERFACE {
                return Err(format!("Invalid interface type({interface})").into());
            }
        }
        if wanted.is_empty() {
            cx.http(http, answer::Answer::done());
        } else {
            self.0.add(http, PendingSubscription { add, tries: 0 });
            cx.get(Continuation::Subscribe(SubscribeCall::Read, http), url::read(KEY));
        }
        Ok(())
    }

    pub(crate) fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        part: SubscribeCall,
        http: HttpId,
        answer: Option<&Answer>,
    ) {
        let Some(wish) = self.0.get_mut(http) else { return };
        let refusal = match (part, answer.map(|answer| (answer.status, answer))) {
            (SubscribeCall::Read, Some((200 | 404, answer))) => match changed(answer, wish.add) {
                Some(Some(op)) => {
                    txn::send(cx, Continuation::Subscribe(SubscribeCall::Write, http), [&op]);
                    return;
                }
                Some(None) => None,
                None => Some("The list of subscriptions in Consul is not understood"),
            },
            (SubscribeCall::Write, answer) => match Outcome::of(answer.map(|(_, answer)| answer)) {
                Outcome::Applied(_) => None,
                Outcome::Conflict(_) if wish.tries < TRIES => {
                    wish.tries += 1;
                    cx.get(Continuation::Subscribe(SubscribeCall::Read, http), url::read(KEY));
                    return;
                }
                Outcome::Conflict(_) | Outcome::Denied(_) | Outcome::Unknown(_) => {
                    Some("Consul does not take it")
                }
            },
            (SubscribeCall::Read, _) => Some("Consul does not take it"),
        };
        let answer = match refusal {
            None => answer::Answer::done(),
            Some(why) => answer::Answer::refuse(503, "HTTPServiceUnavailable", "", why),
        };
        self.0.answer(cx, http, answer);
    }

    /// Answers all waiting requests because of a stop.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.0.answer_all(cx, &answer::Answer::stopping());
    }
}

/// Returns the operation for the requested change: `Some(None)` if the list is as requested already, `None`
/// if the stored value is not a list.
#[expect(clippy::option_option, reason = "not understood, understood and nothing to do, to do")]
fn changed(answer: &Answer, add: bool) -> Option<Option<Op>> {
    let (mut list, index): (Vec<String>, u64) = match answer.status {
        404 => (Vec::new(), 0),
        _ => {
            let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body).ok()?;
            (json::parse(&entry.bytes()?).ok()?, entry.modify_index)
        }
    };
    let there = list.iter().any(|interface| interface == INTERFACE);
    if there == add {
        return Some(None);
    }
    if add {
        list.push(INTERFACE.into());
    } else {
        list.retain(|interface| interface != INTERFACE);
    }
    let value = format!("{}", serde_json::Value::from(list));
    Some(Some(Op::cas(KEY, value.as_bytes(), index)))
}
