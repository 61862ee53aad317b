//! The fake of Motr's library is strict: what the real one aborts on fails a test.
#![expect(unsafe_code, reason = "the library's functions are called as C would")]

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};

use motr_sys::abi::{self, m0_fid, m0_ha_link, m0_ha_msg, m0_halon_interface, m0_uint128};
use motr_sys::fake::{FakeLibrary, Link, Says};

const OWN: (u64, u64) = (0x7200_0000_0000_0001, 1);
const PEER: (u64, u64) = (0x7200_0000_0000_0001, 2);

/// What the callbacks have seen last. Tests of a library run one after another.
static LINK: AtomicPtr<m0_ha_link> = AtomicPtr::new(ptr::null_mut());
static MESSAGE: AtomicPtr<m0_ha_msg> = AtomicPtr::new(ptr::null_mut());
static DELIVERED: AtomicUsize = AtomicUsize::new(0);
static NOT_DELIVERED: AtomicUsize = AtomicUsize::new(0);
/// The next message makes its callback call what blocks.
static COMMANDS: AtomicBool = AtomicBool::new(false);

type Hi = *mut m0_halon_interface;

/// Answers at once, as a callback may.
unsafe extern "C" fn asked(
    hi: Hi,
    id: *const m0_uint128,
    _: *const core::ffi::c_char,
    _: *const m0_fid,
    _: *const core::ffi::c_char,
    _: u64,
    _: bool,
) {
    // SAFETY: `hi` and `id` are the library's; no confds, so no arrays.
    unsafe { reply(hi, id) };
}

unsafe fn reply(hi: Hi, id: *const m0_uint128) {
    let ha = HA.get().expect("set by `with`");
    // SAFETY: the caller's.
    unsafe {
        let (confd, mut endpoint) = (m0_fid { f_container: 0, f_key: 1 }, c"x".as_ptr());
        let (one, text) = (&raw const confd, endpoint);
        (ha.entrypoint_reply)(hi, id, 0, 1, one, &raw mut endpoint, 1, one, text);
    }
}

/// Answers the library's own question for states.
fn answer(link: *mut m0_ha_link, msg: *const m0_ha_msg) {
    // SAFETY: just received; its type says what is in it.
    unsafe {
        let asked = (*msg).hm_data.u.hed_nvec;
        if (*msg).hm_data.hed_type != u64::from(abi::M0_HA_MSG_NVEC) || asked.hmnv_type != 1 {
            return;
        }
        let mut answer = motr_sys::message();
        answer.hm_data.hed_type = u64::from(abi::M0_HA_MSG_NVEC);
        answer.hm_data.u.hed_nvec.hmnv_id_of_get = asked.hmnv_id_of_get;
        let (ha, mut tag) = (HA.get().expect("set by `with`"), 0);
        (ha.send)(HI.load(SeqCst), link, &raw const *answer, &raw mut tag);
    }
}

unsafe extern "C" fn received(_: Hi, link: *mut m0_ha_link, msg: *const m0_ha_msg, _: u64) {
    if COMMANDS.swap(false, SeqCst) {
        let (ha, hi) = (HA.get().expect("set by `with`"), HI.load(SeqCst));
        // SAFETY: where it may not be, on purpose; the fake does nothing.
        unsafe { (SPIEL.get().expect("set").rconfc_stop)((ha.spiel)(hi)) };
    }
    answer(link, msg);
    if link == LINK.load(SeqCst) {
        MESSAGE.store(msg.cast_mut(), SeqCst);
    } else {
        let (ha, hi) = (HA.get().expect("set by `with`"), HI.load(SeqCst));
        // SAFETY: just received.
        unsafe { (ha.delivered)(hi, link, msg) };
    }
}

unsafe extern "C" fn delivered(_: Hi, _: *mut m0_ha_link, _: u64) {
    DELIVERED.fetch_add(1, SeqCst);
}

unsafe extern "C" fn not_delivered(_: Hi, _: *mut m0_ha_link, _: u64) {
    NOT_DELIVERED.fetch_add(1, SeqCst);
}

unsafe extern "C" fn connected(hi: Hi, id: *const m0_uint128, link: *mut m0_ha_link) {
    HI.store(hi, SeqCst);
    // SAFETY: the library's.
    let first = unsafe { *id }.u_lo == 0;
    // The first is the one to ourselves.
    if !first {
        LINK.store(link, SeqCst);
    }
}

unsafe extern "C" fn reused(_: Hi, _: *const m0_uint128, _: *mut m0_ha_link) {}

unsafe extern "C" fn absent(_: Hi, _: *const m0_uint128) {}

unsafe extern "C" fn disconnecting(hi: Hi, link: *mut m0_ha_link) {
    let ha = HA.get().expect("set by `with`");
    // SAFETY: this callback is the leave to do it.
    unsafe { (ha.disconnect)(hi, link) };
}

unsafe extern "C" fn disconnected(_: Hi, _: *mut m0_ha_link) {}

static HA: std::sync::OnceLock<motr_sys::Ha> = std::sync::OnceLock::new();
static SPIEL: std::sync::OnceLock<motr_sys::Spiel> = std::sync::OnceLock::new();
static HI: AtomicPtr<m0_halon_interface> = AtomicPtr::new(ptr::null_mut());

struct User<'a> {
    library: &'a FakeLibrary,
    ha: motr_sys::Ha,
    hi: Hi,
}

/// A started library, used by `test` and finished.
fn with(test: impl FnOnce(&User<'_>)) {
    with_end(test, |_| {});
}

/// Looks at the end, too.
fn with_end(test: impl FnOnce(&User<'_>), end: impl FnOnce(&FakeLibrary)) {
    let library = FakeLibrary::new();
    let ha = *HA.get_or_init(|| library.ha());
    [&DELIVERED, &NOT_DELIVERED].into_iter().for_each(|n| n.store(0, SeqCst));
    [&LINK].into_iter().for_each(|link| link.store(ptr::null_mut(), SeqCst));
    MESSAGE.store(ptr::null_mut(), SeqCst);
    let mut hi = ptr::null_mut();
    let fid = m0_fid { f_container: OWN.0, f_key: OWN.1 };
    let options = c"disable-compatibility-check".as_ptr();
    // SAFETY: the library's contract, as far as it goes: one thread, texts that live long enough.
    unsafe {
        assert_eq!((ha.init)(&raw mut hi, ptr::null(), ptr::null(), options, ptr::null()), 0);
        let (endpoint, fid) = (c"inet:tcp:127.0.0.1@1".as_ptr(), &raw const fid);
        #[rustfmt::skip]
        let rc = (ha.start)(
            hi, endpoint, fid, fid, fid,
            Some(asked), Some(received), Some(delivered), Some(not_delivered),
            Some(connected), Some(reused), Some(absent), Some(disconnecting), Some(disconnected),
        );
        assert_eq!(rc, 0);
        test(&User { library: &library, ha, hi });
        (ha.stop)(hi);
        (ha.fini)(hi);
    }
    library.finished();
    end(&library);
}

impl User<'_> {
    /// The handle for commands, and the library's functions.
    fn spiel(&self) -> (motr_sys::Spiel, *mut abi::m0_spiel) {
        // SAFETY: it is started.
        (self.library.spiel(), unsafe { (self.ha.spiel)(self.hi) })
    }

    /// The configuration is read.
    fn begin(&self) -> (motr_sys::Spiel, *mut abi::m0_spiel) {
        let (library, spiel) = self.spiel();
        self.library.says("rconfc_start", Says::Rc(0));
        // SAFETY: it is started; the text is a constant.
        unsafe {
            assert_eq!((library.cmd_profile_set)(spiel, c"profile".as_ptr()), -22);
            assert_eq!((library.cmd_profile_set)(spiel, c"0x7000000000000001:0x0".as_ptr()), 0);
            assert_eq!((library.rconfc_start)(spiel, None), 0);
        }
        (library, spiel)
    }

    fn peer(&self) -> Link {
        let request = self.library.ask(PEER, 7, true);
        assert_eq!(self.library.reply(request).rc, 0);
        self.library.link(PEER, 7)
    }

    /// Says something and waits until it is heard.
    fn hear(&self, link: Link) -> u64 {
        let tag = self.library.say(link, |_| {}).expect("it lives");
        while MESSAGE.load(SeqCst).is_null() {
            std::thread::yield_now();
        }
        tag
    }

    fn acknowledge(&self) {
        // SAFETY: the library's own; a second time on purpose in one test.
        unsafe { (self.ha.delivered)(self.hi, LINK.load(SeqCst), MESSAGE.load(SeqCst)) };
    }

    fn send(&self) -> u64 {
        let message = motr_sys::message();
        let mut tag = 0;
        // SAFETY: on a link that exists, or not, on purpose.
        unsafe { (self.ha.send)(self.hi, LINK.load(SeqCst), &raw const *message, &raw mut tag) };
        tag
    }
}

#[test]
fn a_user_who_keeps_to_the_rules_has_nothing_to_hear() {
    let keeps = |user: &User<'_>| {
        let link = user.peer();
        let tag = user.hear(link);
        assert_eq!(tag, 2, "what is received has even tags");
        assert!(user.library.is_held(link, tag));
        user.acknowledge();
        assert!(!user.library.is_held(link, tag));
        assert_eq!((user.send(), user.send()), (1, 3), "what is sent has odd tags");
        user.library.settle(link, true);
        user.library.fail(PEER);
        user.library.disconnected(link);
    };
    with_end(keeps, |_| {
        assert_eq!((DELIVERED.load(SeqCst), NOT_DELIVERED.load(SeqCst)), (1, 1));
    });
}

#[test]
fn a_second_reply_is_noticed() {
    with(|user| {
        let request = user.library.ask(PEER, 7, true);
        user.library.reply(request);
        let ids = m0_uint128 { u_hi: 1, u_lo: 1 };
        // SAFETY: a second reply is what is tested.
        unsafe { reply(user.hi, &raw const ids) };
        assert_eq!(user.library.wrong(), "a second reply to a request");
        let never = m0_uint128 { u_hi: 9, u_lo: 9 };
        // SAFETY: likewise one to nobody.
        unsafe { reply(user.hi, &raw const never) };
        assert_eq!(user.library.wrong(), "a reply to a request that was not made");
    });
}

#[test]
fn a_second_acknowledgement_is_noticed() {
    with(|user| {
        let link = user.peer();
        user.hear(link);
        user.acknowledge();
        user.acknowledge();
        let wrong = user.library.wrong();
        assert!(wrong.starts_with("delivered for a message that is acknowledged"), "{wrong}");
    });
}

#[test]
fn use_after_disconnect_is_noticed() {
    with(|user| {
        let link = user.peer();
        let handle = LINK.load(SeqCst);
        // SAFETY: too early, on purpose; the second time, too late.
        unsafe { (user.ha.disconnect)(user.hi, handle) };
        assert_eq!(user.library.wrong(), "disconnect of a link that is not disconnecting");
        user.library.disconnected(link);
        assert_eq!(user.send(), 0);
        assert_eq!(user.library.wrong(), "send on a link that does not exist");
    });
}

#[test]
fn a_link_that_is_taken_away_with_messages_is_noticed() {
    with(|user| {
        let link = user.peer();
        user.hear(link);
        user.library.fail(PEER);
        assert_eq!(user.library.wrong(), "disconnect with 1 messages not acknowledged");
    });
}

#[test]
fn another_thread_is_noticed() {
    with(|user| {
        struct Anywhere(Hi);
        // SAFETY: the fake locks.
        unsafe impl Send for Anywhere {}
        let (ha, hi) = (user.ha, Anywhere(user.hi));
        std::thread::spawn(move || {
            let hi = hi;
            // SAFETY: on the wrong thread, and too early, on purpose.
            unsafe { (ha.fini)(hi.0) };
        })
        .join()
        .unwrap();
        assert_eq!(user.library.wrong(), "fini of an interface that is not stopped");
        assert_eq!(user.library.wrong(), "fini on another thread than init");
    });
}

#[test]
fn a_thread_that_is_adopted_and_ends_is_noticed() {
    let library = FakeLibrary::new();
    let ha = library.ha();
    let hi = Cell::new(ptr::null_mut());
    let options = c"disable-compatibility-check".as_ptr();
    // SAFETY: the contract, but for what is tested.
    unsafe {
        assert_eq!((ha.init)(hi.as_ptr(), ptr::null(), ptr::null(), ptr::null(), ptr::null()), -22);
        assert_eq!((ha.init)(hi.as_ptr(), ptr::null(), ptr::null(), options, ptr::null()), 0);
    }
    let adopt = |shun: bool| {
        std::thread::spawn(move || {
            let mut thread = abi::m0_thread { opaque: [0; 23] };
            // SAFETY: the fake does not look at the interface.
            assert_eq!(unsafe { (ha.thread_adopt)(ptr::null_mut(), &raw mut thread) }, 0);
            if shun {
                // SAFETY: it is adopted.
                unsafe { (ha.thread_shun)() };
            }
        })
        .join()
        .unwrap();
    };
    adopt(true);
    adopt(false);
    // SAFETY: on the thread of `init`.
    unsafe { (ha.fini)(hi.get()) };
    let wrong = library.wrong();
    assert!(wrong.starts_with("fini while a thread is adopted"), "{wrong}");
}

#[test]
fn commands_need_the_configuration_and_it_is_given_up_before_the_stop() {
    let fid = m0_fid { f_container: 0, f_key: 1 };
    let pool = &raw const fid;
    with(|user| {
        let (library, spiel) = user.spiel();
        // SAFETY: what it says, on purpose; the fake does nothing.
        unsafe {
            assert_eq!((library.rconfc_start)(spiel, None), -22);
            assert_eq!(user.library.wrong(), "rconfc_start without a profile, or twice");
            assert_eq!((library.repair_start)(spiel, pool), -22);
        }
        let early = user.library.wrong();
        assert!(early.starts_with("repair_start before rconfc_start"), "{early}");
        user.begin();
        user.library.says("repair_start", Says::Rc(-16));
        // SAFETY: it is read; at the end it is not, on purpose.
        unsafe {
            assert_eq!((library.repair_start)(spiel, pool), -16);
            (library.rconfc_stop)(spiel);
            assert_eq!((library.rebalance_abort)(spiel, pool), -22);
        }
        let late = user.library.wrong();
        assert!(late.starts_with("rebalance_abort before rconfc_start, or after"), "{late}");
    });
    let read = |user: &User<'_>| {
        user.begin();
    };
    with_end(read, |library| assert_eq!(library.wrong(), "stop before rconfc_stop"));
}

#[test]
fn what_the_library_gives_is_given_back_once() {
    let status = m0_fid { f_container: 0, f_key: 2 };
    let status = abi::m0_spiel_repreb_status { srs_fid: status, srs_state: 1, srs_progress: 0 };
    let get = |user: &User<'_>, (library, spiel): (motr_sys::Spiel, *mut abi::m0_spiel)| {
        let mut statuses = ptr::null_mut();
        user.library.says("repair_status", Says::Statuses(vec![status]));
        // SAFETY: the configuration is read.
        let n =
            unsafe { (library.repair_status)(spiel, &raw const status.srs_fid, &raw mut statuses) };
        assert_eq!(n, 1);
        statuses
    };
    let leave = |user: &User<'_>, free: bool| {
        let (library, spiel) = user.begin();
        let statuses = get(user, (library, spiel));
        let mut counters = ptr::null_mut();
        // SAFETY: each as it is to be, but for what is tested.
        unsafe {
            assert_eq!((library.count_stats_init)(&raw mut counters), 0);
            if free {
                (library.free)(ptr::null_mut());
                (library.free)(statuses.cast());
                (library.free)(statuses.cast());
                assert_eq!(
                    user.library.wrong(),
                    "m0_free of what the library did not give, or twice"
                );
                (library.count_stats_fini)(counters);
                (library.count_stats_fini)(counters);
                assert!(user.library.wrong().starts_with("count_stats_fini of what is not"));
            }
            (library.rconfc_stop)(spiel);
        }
    };
    with(|user| leave(user, true));
    let leaks = |library: &FakeLibrary| {
        assert_eq!(library.wrong(), "fini with 2 results that were not freed")
    };
    with_end(|user| leave(user, false), leaks);
}

#[test]
fn what_blocks_is_not_for_callbacks() {
    with(|user| {
        let link = user.peer();
        SPIEL.get_or_init(|| user.library.spiel());
        COMMANDS.store(true, SeqCst);
        let tag = user.hear(link);
        assert_eq!(user.library.wrong(), "rconfc_stop inside a callback: it blocks");
        user.acknowledge();
        user.library.acknowledged(link, tag);
    });
}

#[test]
fn a_lab_fails_its_test() {
    let failed = std::panic::catch_unwind(|| {
        let library = FakeLibrary::new();
        // SAFETY: nothing is adopted: wrong, on purpose.
        unsafe { (library.ha().thread_shun)() };
    });
    let why = failed.unwrap_err();
    let why = why.downcast_ref::<String>().expect("a text");
    assert!(why.contains("would have aborted"), "{why}");
}
