//! See `postdate_fuzz::journal_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::journal_frame(data);
});
