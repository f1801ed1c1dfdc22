//! See `postdate_fuzz::engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::engine(data);
});
