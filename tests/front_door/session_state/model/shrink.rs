//! A failing program made shorter, until no step can be left out.

use super::program::Program;

/// How often a shorter program is tried.
const MOST_TRIALS: usize = 400;

/// The shortest program that was found to fail still: pieces are left out,
/// large ones first.
pub fn shrink(program: Program, mut fails: impl FnMut(&Program) -> bool) -> Program {
    let mut shortest = program;
    let mut trials = 0;
    let mut piece = shortest.0.len().div_ceil(2);
    while piece > 0 {
        let mut start = 0;
        let before = shortest.0.len();
        while start < shortest.0.len() && trials < MOST_TRIALS {
            let mut shorter = shortest.clone();
            shorter.0.drain(start..shorter.0.len().min(start + piece));
            trials += 1;
            if fails(&shorter) {
                shortest = shorter;
            } else {
                start += piece;
            }
        }
        // What could not be left out may be able to now.
        let again = piece == 1 && shortest.0.len() < before;
        piece = if again { 1 } else { piece / 2 };
        if trials >= MOST_TRIALS {
            break;
        }
    }
    shortest
}

#[test]
fn what_does_not_matter_is_left_out() {
    let program = super::vocabulary::program(1);
    let (first, last) = (program.0[1].clone(), program.0[8].clone());
    let mut trials = 0;
    let shortest = shrink(program, |shorter| {
        trials += 1;
        let place = |step| shorter.0.iter().position(|other| other == step);
        place(&first).is_some_and(|at| place(&last).is_some_and(|other| at < other))
    });
    assert_eq!(shortest.0, [first, last]);
    assert!(trials < 100, "{trials}");
}
