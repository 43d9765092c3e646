//! Drivers through the transaction endpoint.

use super::clients::{assert_works, script};
use super::demo::demo;

#[test]
fn pgvector_finds_the_nearest_neighbours() {
    let mut search = script("pgvector_pooled.py");
    search.env("URI", demo().variable("POSTERN_POOLED_URI_SEARCH"));
    assert_works(&mut search, &["vectors are stored", "exact search", "search by an index"]);
}
