//! The guard against regressions: allocations do not depend on the machine's mood. What a count may
//! be at most is written beside it; where it does not hold any more, something has been made dearer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use hax_benches::peers::Peers;
use hax_benches::rig::Rig;
use hax_benches::{scenes, shapes};
use hax_core::bridge::io::{Input, Output};
use hax_core::wire::codec::frame::Frames;
use hax_core::wire::codec::packet;

/// Counts the allocations of each thread by itself, since tests run beside one another.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no count any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

#[expect(unsafe_code, reason = "there is no other way to see allocations")]
// SAFETY: every call is passed on to the system's allocator as it came; counting allocates nothing,
// as a constant thread-local without a destructor is not allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` is of the system's allocator, as all that `alloc` and `realloc` returned.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as in `dealloc`; size and layout are the caller's.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns, and the allocations that it took.
fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.with(Cell::get);
    let result = work();
    (result, COUNT.with(Cell::get) - before)
}

/// Asserts, and says what it is: the documentation's table is made of these lines.
#[expect(clippy::print_stdout, reason = "the figures are for who reads them")]
fn at_most(what: &str, found: u64, most: u64) {
    println!("{what}: {found} allocations, at most {most}");
    assert!(found <= most, "{what}: {found} allocations, at most {most}");
}

#[test]
fn an_entrypoint_in_a_storm_takes_next_to_none() {
    const N: usize = 10_000;
    let mut rig = Rig::new(&shapes::nodes23());
    // What grows once and stays is not the storm's.
    scenes::storm(&mut rig, N);
    scenes::forget_crowd(&mut rig);
    let requests = scenes::asked(&mut rig, N);
    let ((), asked) = counted(|| rig.give_all(requests));
    let mut answered = 0;
    for _ in 0..2 {
        let answers = scenes::round(&mut rig);
        answered += counted(|| answers.into_iter().for_each(|a| rig.give(Input::Consul(a)))).1;
    }
    at_most("10,000 entrypoints, asked and answered", asked + answered, 600);
    let replies = rig.out.iter().filter(|output| matches!(output, Output::Motr(_)));
    assert_eq!(replies.count(), N);
}

#[test]
fn a_question_takes_as_many_whatever_it_asks() {
    for shape in [shapes::nodes23(), shapes::with(23, 16, 500)] {
        let mut rig = Rig::new(&shape);
        let process = rig.processes(0)[0];
        let link = rig.link(process);
        rig.rest();
        for notes in [1, 64, 1024] {
            let objects = scenes::objects(&rig, notes);
            scenes::probes(&mut rig, link, process);
            let question = scenes::question(&mut rig, link, process, &objects);
            let ((), asked) = counted(|| rig.give(question));
            let probes = scenes::round(&mut rig);
            let answered =
                counted(|| probes.into_iter().for_each(|p| rig.give(Input::Consul(p)))).1;
            at_most(&format!("a question for {notes} states"), asked + answered, 8);
            rig.rest();
        }
    }
}

#[test]
fn a_process_event_takes_as_many_whatever_the_configuration() {
    for shape in [shapes::nodes23(), shapes::with(23, 16, 500)] {
        let mut rig = Rig::new(&shape);
        let process = rig.processes(0)[0];
        let link = rig.link(process);
        rig.rest();
        let mut spent = 0;
        for nth in 0..4 {
            let event = scenes::event(&mut rig, link, process, nth);
            let ((), said) = counted(|| rig.give(event));
            let answers = scenes::round(&mut rig);
            let written =
                counted(|| answers.into_iter().for_each(|a| rig.give(Input::Consul(a)))).1;
            spent = said + written;
            rig.rest();
        }
        at_most("a process event", spent, 80);
    }
}

#[test]
fn a_broadcast_takes_as_many_whatever_the_links() {
    let mut counts = Vec::new();
    for links in [1, 1000] {
        let mut rig = Rig::new(&shapes::crowded());
        for n in 0..links {
            rig.link(hax_core::base::fid::Fid::process(1_000_000 + n));
        }
        rig.rest();
        let mut counts_of = [0; 2];
        for alive in [false, true] {
            rig.set_alive(1, alive);
            while !scenes::tells(&rig) {
                let mut calls = true;
                let taken = counted(|| calls = rig.step()).1;
                assert!(calls, "it tells");
                counts_of[usize::from(alive)] = taken;
            }
            rig.rest();
        }
        counts.push(counts_of[1]);
    }
    at_most("a broadcast in the bridge to 999 links more", counts[1].saturating_sub(counts[0]), 10);
}

#[test]
fn the_wire_encodes_a_broadcast_once() {
    let mut counts = Vec::new();
    for links in [1, 101] {
        let mut peers = Peers::new(links);
        scenes::wire_broadcast(&mut peers);
        let command = peers.broadcast(scenes::statement(1024));
        counts.push(counted(|| peers.give(command)).1);
        peers.rest();
    }
    at_most("a broadcast on the wire, for each link", (counts[1] - counts[0]).div_ceil(100), 2);
}

#[test]
fn a_message_is_coded_in_a_few() {
    let (src, dst, item) = scenes::item(1024);
    let (frame, encoding) = counted(|| packet::encode(src, dst, std::slice::from_ref(&item)));
    at_most("encoding a message of 1,024 notes", encoding, 4);
    let mut frames = Frames::default();
    let frame = Bytes::from(frame);
    let ((), decoding) = counted(|| {
        frames.feed(frame.clone());
        let (_, payload) = frames.cut().unwrap().unwrap();
        assert_eq!(packet::decode(&payload).unwrap().count(), 1);
    });
    at_most("decoding a message of 1,024 notes", decoding, 4);
}

#[test]
fn a_payload_takes_a_few_for_each_check() {
    let mut rig = Rig::new(&shapes::nodes23());
    let body = scenes::payload(&mut rig, 1000);
    let request = scenes::posted(&mut rig, &body);
    let ((), taken) = counted(|| rig.give(request));
    at_most("a payload of 1,000 nodes, 2,000 checks", taken, 7_100);
}
