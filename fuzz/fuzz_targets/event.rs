//! See `postdate_fuzz::event`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::event(data);
});
