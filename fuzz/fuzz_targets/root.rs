//! See `postdate_fuzz::root`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::root(data);
});
