#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| edgeling_fuzz::imatrix::run(input));
