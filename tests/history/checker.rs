//! Whether what several threads saw could have come from one thread.
//!
//! Promises: a history passes exactly if the steps of its calls can be put in one order that keeps the order of each
//! thread, puts every step between its call's beginning and end, and in which the model gives every answer that was
//! seen. Owns nothing. Never: a verdict for want of time; what it cannot decide it goes on with.
//!
//! The search is Wing and Gong's with Lowe's memory of the states it has been in: at each point a thread may take its
//! next step unless another call, not finished yet, ended before this one began. A call is one step in most models; one
//! that is promised less (a walk looks one name up after the other) is several, and others' steps may come between.

use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::hash::Hash;

/// One call as it was seen from outside. Times are of one clock for all threads, and no two are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call<O, A> {
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) operation: O,
    pub(crate) answer: A,
}

/// The calls of each thread, in its order.
pub(crate) type History<O, A> = Vec<Vec<Call<O, A>>>;

/// What becomes of a step.
pub(crate) enum Step<S, L> {
    /// The call goes on, with what it has learnt.
    Goes(S, L),
    /// The same, when nothing has changed and it could learn nothing better later.
    Passes(L),
    /// The call is over, with the answer that was seen.
    Ends(S),
}

/// How one thread alone would have it.
pub(crate) trait Model {
    type Operation: Debug;
    type Answer: Debug;
    /// All that is there.
    type State: Clone + Eq + Hash + Debug;
    /// What a call under way has learnt; as it begins, the default.
    type Local: Clone + Eq + Hash + Default;

    /// Whether a call with this answer changes nothing, whenever it ends.
    fn only_looks(&self, operation: &Self::Operation, answer: &Self::Answer) -> bool;

    /// The next step of a call: every way it can go, none if it cannot come to the answer that was seen. `number` is the
    /// call's own in the history.
    fn step(
        &self,
        state: &Self::State,
        number: u32,
        call: (&Self::Operation, &Self::Answer),
        local: &Self::Local,
    ) -> Vec<Step<Self::State, Self::Local>>;
}

/// A point of the search: each thread's calls that are over, what the one under way has learnt, and the state.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Point<S, L> {
    threads: Vec<(u16, L)>,
    state: S,
}

type CallOf<M> = Call<<M as Model>::Operation, <M as Model>::Answer>;
type PointOf<M> = Point<<M as Model>::State, <M as Model>::Local>;

/// Looks for an order of one thread, and answers how many points the search came through.
///
/// # Errors
/// The history, readable, and how far the best order came, when there is none.
pub(crate) fn check<M: Model>(
    model: &M,
    start: M::State,
    history: &[Vec<CallOf<M>>],
) -> Result<usize, String> {
    let mut number = 0;
    let first_numbers: Vec<u32> = history
        .iter()
        .map(|calls| {
            let first = number;
            number += u32::try_from(calls.len()).expect("short histories");
            first
        })
        .collect();
    let threads = vec![(0, M::Local::default()); history.len()];
    let mut stack = vec![Point { threads, state: start }];
    let mut met: HashSet<PointOf<M>> = HashSet::new();
    let mut best: Option<(usize, PointOf<M>)> = None;
    while let Some(point) = stack.pop() {
        let done = point.threads.iter().map(|(done, _)| usize::from(*done)).sum();
        if done == number as usize {
            return Ok(met.len());
        }
        if !met.insert(point.clone()) {
            continue;
        }
        if best.as_ref().is_none_or(|(most, _)| done > *most) {
            best = Some((done, point.clone()));
        }
        let next = |thread: usize| history[thread].get(usize::from(point.threads[thread].0));
        let horizon = (0..history.len()).filter_map(|thread| Some(next(thread)?.ended)).min();
        let mut ways = Vec::new();
        'threads: for (thread, first) in first_numbers.iter().enumerate() {
            let Some(call) = next(thread).filter(|call| Some(call.began) < horizon) else { continue };
            let (done, local) = &point.threads[thread];
            let number = first + u32::from(*done);
            for step in model.step(&point.state, number, (&call.operation, &call.answer), local) {
                let mut threads = point.threads.clone();
                let (state, need_not_wait) = match step {
                    Step::Goes(state, local) => {
                        threads[thread].1 = local;
                        (state, false)
                    }
                    Step::Passes(local) => {
                        threads[thread].1 = local;
                        (point.state.clone(), true)
                    }
                    Step::Ends(state) => {
                        threads[thread] = (done + 1, M::Local::default());
                        (state, model.only_looks(&call.operation, &call.answer))
                    }
                };
                // Whatever order explains the rest explains it after such a step as well, so no other is tried.
                if need_not_wait {
                    ways.clear();
                }
                ways.push(Point { threads, state });
                if need_not_wait {
                    break 'threads;
                }
            }
        }
        stack.append(&mut ways);
    }
    Err(told::<M>(history, best.map(|(_, point)| point)))
}

/// The history in the order of beginnings, with a mark at the calls that the best order had brought to their end.
fn told<M: Model>(history: &[Vec<CallOf<M>>], best: Option<PointOf<M>>) -> String {
    let mut lines = Vec::new();
    for (thread, calls) in history.iter().enumerate() {
        let done = best.as_ref().map_or(0, |point| usize::from(point.threads[thread].0));
        for (at, call) in calls.iter().enumerate() {
            let mark = if at < done { ' ' } else { '*' };
            let Call { began, ended, operation, answer } = call;
            let line = format!("{mark} thread {thread} [{began:>4}, {ended:>4}] {operation:?} -> {answer:?}");
            lines.push((*began, line));
        }
    }
    lines.sort();
    let mut text =
        String::from("no order of one thread explains this (* what the best attempt has left over):\n");
    for (_, line) in lines {
        let _ = writeln!(text, "{line}");
    }
    if let Some(point) = best {
        let _ = writeln!(text, "where it came to: {:?}", point.state);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register that is written, read, and swapped in two steps that others may come between.
    struct Register;

    #[derive(Debug)]
    enum Operation {
        Write(u8),
        Read,
        /// Answers what was there before, but not atomically: a read, then a write.
        LooseSwap(u8),
    }

    impl Model for Register {
        type Operation = Operation;
        type Answer = u8;
        type State = u8;
        type Local = bool;

        fn only_looks(&self, operation: &Operation, _: &u8) -> bool {
            matches!(operation, Operation::Read)
        }

        fn step(
            &self,
            state: &u8,
            _: u32,
            (operation, answer): (&Operation, &u8),
            has_read: &bool,
        ) -> Vec<Step<u8, bool>> {
            match operation {
                Operation::Write(value) => vec![Step::Ends(*value)],
                Operation::Read if state == answer => vec![Step::Ends(*state)],
                Operation::LooseSwap(value) if *has_read => vec![Step::Ends(*value)],
                Operation::LooseSwap(_) if state == answer => vec![Step::Goes(*state, true)],
                Operation::Read | Operation::LooseSwap(_) => vec![],
            }
        }
    }

    fn call(began: u64, ended: u64, operation: Operation, answer: u8) -> Call<Operation, u8> {
        Call { began, ended, operation, answer }
    }

    fn passes(history: Vec<Vec<Call<Operation, u8>>>) -> bool {
        check(&Register, 0, &history).is_ok()
    }

    #[test]
    fn a_read_during_a_write_may_see_either() {
        for seen in [0, 7] {
            let write = call(1, 4, Operation::Write(7), 0);
            assert!(passes(vec![vec![write], vec![call(2, 3, Operation::Read, seen)]]));
        }
    }

    #[test]
    fn a_read_after_a_write_sees_it_and_never_what_nobody_wrote() {
        for (seen, fine) in [(0, false), (7, true), (8, false)] {
            let write = call(1, 2, Operation::Write(7), 0);
            assert_eq!(passes(vec![vec![write], vec![call(3, 4, Operation::Read, seen)]]), fine, "{seen}");
        }
    }

    #[test]
    fn two_readers_agree_on_the_order_of_two_writes() {
        for (other, fine) in [([7, 8], true), ([8, 7], false)] {
            let writes = [call(1, 20, Operation::Write(7), 0), call(2, 21, Operation::Write(8), 0)];
            let [one, two] = writes.map(|write| vec![write]);
            let readers = [[7, 8], other].map(|seen| {
                let [first, second] = seen;
                vec![call(3, 8, Operation::Read, first), call(10, 15, Operation::Read, second)]
            });
            let [third, fourth] = readers;
            assert_eq!(passes(vec![one, two, third, fourth]), fine, "{other:?}");
        }
    }

    #[test]
    fn others_come_between_the_steps_of_one_call_but_only_while_it_runs() {
        for (last, fine) in [(5, true), (7, true), (0, false)] {
            let swap = call(1, 10, Operation::LooseSwap(5), 0);
            let others = vec![call(2, 3, Operation::Write(7), 0), call(4, 5, Operation::Read, 7)];
            let after = vec![call(11, 12, Operation::Read, last)];
            assert_eq!(passes(vec![vec![swap], others, after]), fine, "{last}");
        }
    }

    #[test]
    fn a_failure_tells_the_whole_history() {
        let history = vec![vec![call(1, 2, Operation::Write(7), 0)], vec![call(3, 4, Operation::Read, 9)]];
        let told = check(&Register, 0, &history).expect_err("nobody wrote 9");
        assert!(told.contains("  thread 0 [   1,    2] Write(7) -> 0"), "{told}");
        assert!(told.contains("* thread 1 [   3,    4] Read -> 9") && told.contains("came to: 7"), "{told}");
    }
}
