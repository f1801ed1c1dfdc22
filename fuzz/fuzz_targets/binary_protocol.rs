//! See `postdate_fuzz::binary_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    postdate_fuzz::binary_protocol(data);
});
