#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| recipes::hostile::accounts(bytes));
