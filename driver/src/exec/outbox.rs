//! The events on their way to the machine. While its inbox is full they wait here, in order, and the outputs
//! of helpers are not read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_channel::Sender;
use hax_core::exec::Event;

/// The delivery of an event to the inbox. It completes when the event is in the inbox or the inbox is closed.
type Delivery = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A queue of events; see the module.
pub(super) struct Outbox {
    deliver: Box<dyn Fn(Event) -> Delivery + Send>,
    waker: Waker,
    under_way: Option<Delivery>,
    waiting: VecDeque<Event>,
}

impl Outbox {
    /// Creates an empty queue. `wrap` converts the events into inputs, which are put in `inbox`. `waker` is
    /// woken when the inbox has room again.
    pub(super) fn new<I: Send + 'static>(
        inbox: Sender<I>,
        wrap: fn(Event) -> I,
        waker: Waker,
    ) -> Self {
        let deliver = move |event| {
            let (inbox, input) = (inbox.clone(), wrap(event));
            // If the inbox is closed, the machine needs no more events.
            let delivery: Delivery = Box::pin(async move { drop(inbox.send(input).await) });
            delivery
        };
        let deliver = Box::new(deliver);
        Self { deliver, waker, under_way: None, waiting: VecDeque::new() }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.waiting.push_back(event);
        self.flush();
    }

    /// Delivers as many events as the inbox has room for.
    pub(super) fn flush(&mut self) {
        let mut cx = Context::from_waker(&self.waker);
        loop {
            if self.under_way.is_none() {
                self.under_way = self.waiting.pop_front().map(&self.deliver);
            }
            let Some(delivery) = &mut self.under_way else { return };
            match delivery.as_mut().poll(&mut cx) {
                Poll::Ready(()) => self.under_way = None,
                Poll::Pending => return,
            }
        }
    }

    /// Returns whether the inbox is full.
    pub(super) fn is_blocked(&self) -> bool {
        self.under_way.is_some()
    }
}

#[cfg(test)]
mod tests {
    use hax_core::base::id::ExecId;

    use super::*;

    fn event(n: u64) -> Event {
        Event::Started { id: ExecId(n) }
    }

    #[test]
    fn what_finds_no_room_is_delivered_in_order_once_there_is_some() {
        let (sender, inbox) = async_channel::bounded(1);
        let mut outbox = Outbox::new(sender, |event| event, Waker::noop().clone());
        (1..=3).for_each(|n| outbox.push(event(n)));
        for n in 1..=3 {
            assert_eq!(outbox.is_blocked(), n < 3);
            assert_eq!(inbox.try_recv().unwrap(), event(n));
            outbox.flush();
        }
        assert!(inbox.is_empty());
    }

    #[test]
    fn nobody_waits_for_one_who_is_gone() {
        let (sender, inbox) = async_channel::bounded(1);
        let mut outbox = Outbox::new(sender, |event| event, Waker::noop().clone());
        (1..=2).for_each(|n| outbox.push(event(n)));
        inbox.close();
        outbox.flush();
        assert!(!outbox.is_blocked());
    }
}
