#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hax_sim::fuzz::answer(data));
