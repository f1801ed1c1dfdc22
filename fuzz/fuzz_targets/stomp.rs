//! See `postdate_fuzz::stomp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::stomp(data);
});
