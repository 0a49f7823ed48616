//! Thousands of random but possible sequences of records: whatever way they arrive, the image is the same.

mod it {
    pub mod generator;
    pub mod loading;
    pub mod meaning;
    pub mod replay;
}
