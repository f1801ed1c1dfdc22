//! See `postdate_fuzz::message_batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::message_batch(data);
});
