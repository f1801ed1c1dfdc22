//! See `postdate_fuzz::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::segment(data);
});
