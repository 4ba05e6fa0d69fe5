use std::sync::Mutex;

use super::*;
use crate::af_xdp::{Umem, UmemLayout};
use crate::io::port::Loan;
use crate::worker::ask_all;

const SIZES: RingSizes = RingSizes { fill: 8, completion: 4, receive: 8, transmit: 4, driver: 0 };

/// A handle whose worker does nothing until it is stopped: whoever tests plays the worker.
fn handle() -> WorkerHandle {
    let (mesh, _ends) = Mesh::new(1).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        }
    });
    WorkerHandle {
        id: 0,
        cpu: None,
        counters: WorkerCounters::new(1),
        queries: Queries::new(),
        changes: Changes::new(),
        mesh,
        stop,
        thread: Some(thread),
        patience: Duration::from_millis(20),
        sockets: Vec::new(),
        awaited: false,
        kept: None,
        owes: false,
        unanswered: None,
        late: VecDeque::new(),
        returned: Vec::new(),
        strays: Vec::new(),
    }
}

/// Takes the next question, as the worker does.
fn take(changes: &Changes) -> Change {
    let start = Instant::now();
    loop {
        match changes.asked.pop() {
            Some(change) => return change,
            None => std::thread::yield_now(),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nobody asked");
    }
}

#[test]
fn a_question_that_was_not_taken_is_withdrawn_and_nothing_is_lost() {
    let mut umem = Umem::new(UmemLayout::of_frames(64)).unwrap();
    let mut handle = handle();
    let (port, _kernel) = Port::in_memory(InterfaceId(0), 0, SIZES, &mut umem).unwrap();
    assert!(matches!(handle.take(port), Err(AttachError::Silent { worker: 0, .. })));
    let unused = Loan::of(&mut umem, SIZES).unwrap().unused();
    assert!(matches!(handle.reclaim(unused), Err(AttachError::Silent { worker: 0, .. })));
    assert!(matches!(handle.lend(SIZES), Err(AttachError::Silent { worker: 0, .. })));
    assert!(handle.changes.asked.is_empty(), "the worker does not find what nobody waits for");
    let closed = handle.take_returned().into_iter().map(Port::close).chain(handle.take_strays());
    assert_eq!(closed.map(|closed| closed.reclaim(&mut umem)).sum::<u32>(), 16);
    assert_eq!(umem.free_frames(), umem.total());
}

#[test]
fn a_late_answer_is_none_to_the_next_question_and_nothing_is_lost() {
    let mut umem = Umem::new(UmemLayout::of_frames(64)).unwrap();
    let mut handle = handle();
    let changes = handle.changes.clone();
    // The worker takes a question and is stopped before it answers.
    std::thread::scope(|scope| {
        scope.spawn(|| take(&changes));
        while !handle.owes {
            assert!(matches!(handle.lend(SIZES), Err(AttachError::Silent { worker: 0, .. })));
        }
    });
    // While it owes an answer it is asked nothing else.
    let start = handle.unanswered.unwrap();
    let Err(AttachError::Silent { worker: 0, waited }) = handle.has_room(1) else { panic!("it answered") };
    assert!(waited > Duration::ZERO && waited <= start.elapsed(), "{waited:?}");
    assert!(changes.asked.is_empty());
    let loan = Loan::of(&mut umem, SIZES).unwrap();
    changes.answered.push(Answer::Lent(loan)).unwrap();
    handle.patience = Duration::from_secs(60);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(take(&changes), Change::Room(2)));
            changes.answered.push(Answer::Refused(PortError::TooMany)).unwrap();
        });
        assert!(matches!(handle.has_room(2), Err(AttachError::Port(PortError::TooMany))));
    });
    assert_eq!(handle.take_strays().into_iter().map(|stray| stray.reclaim(&mut umem)).sum::<u32>(), 8);
    assert_eq!(umem.free_frames(), umem.total());
}

/// A worker that got no CPU for a while, as one whose process is stopped.
#[test]
fn a_worker_that_was_stuck_is_told_all_that_it_missed_before_anything_else() {
    let mut umem = Umem::new(UmemLayout::of_frames(64)).unwrap();
    let mut handle = handle();
    let changes = handle.changes.clone();
    let by = |index| Lowers::itself(index, "eth0".into());
    handle.carry(InterfaceId(1), by(10));
    assert!(handle.set_tap(InterfaceId(1), None).is_err());
    handle.carry(InterfaceId(2), by(20));
    assert!(handle.hand_back(7).is_err());
    assert!(!handle.catch_up());
    // It is asked one of them now; others come, and take the place of those before.
    assert!(handle.hand_back(7).is_err());
    handle.carry(InterfaceId(2), by(21));
    handle.carry(InterfaceId(1), by(11));
    let (port, _kernel) = Port::in_memory(InterfaceId(0), 0, SIZES, &mut umem).unwrap();
    handle.patience = Duration::from_secs(6000);
    let told = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let (mut told, mut port) = (Vec::new(), Some(port));
            loop {
                let (what, answer) = match take(&changes) {
                    Change::Carry(interface, lowers) => {
                        (format!("{interface:?} by {}", lowers.devices[0].index), Answer::Done)
                    }
                    Change::Tap(interface, None) => (format!("{interface:?} no TAP"), Answer::Done),
                    Change::HandBack(device) => {
                        (format!("hand back {device}"), Answer::HandedBack(port.take().into_iter().collect()))
                    }
                    Change::Room(_) => break,
                    _ => panic!("nobody asked that"),
                };
                told.push(what);
                changes.answered.push(answer).unwrap();
            }
            changes.answered.push(Answer::Done).unwrap();
            told
        });
        handle.has_room(1).unwrap();
        worker.join().unwrap()
    });
    let (one, two) = (InterfaceId(1), InterfaceId(2));
    let by = |interface: InterfaceId, index: u32| format!("{interface:?} by {index}");
    let expected = [by(one, 10), format!("{one:?} no TAP"), "hand back 7".to_owned(), by(two, 21), by(one, 11)];
    assert_eq!(told, expected);
    assert!(handle.catch_up());
    // What came back meanwhile is there to be closed.
    let returned = handle.take_returned();
    assert_eq!(returned.into_iter().map(|port| port.close().reclaim(&mut umem)).sum::<u32>(), 8);
    assert_eq!(umem.free_frames(), umem.total());
}

#[test]
fn a_worker_that_is_stuck_keeps_no_other_from_being_told() {
    let (mut stuck, mut other) = (handle(), handle());
    stuck.patience = Duration::from_millis(200);
    let lowers = Lowers::itself(10, "eth0".into());
    for worker in [&mut stuck, &mut other] {
        worker.carry(InterfaceId(1), lowers.clone());
    }
    // It finds the question when it is back: nobody waited for it until it was withdrawn.
    assert!(matches!(stuck.changes.asked.pop(), Some(Change::Carry(InterfaceId(1), _))));
    let changes = other.changes.clone();
    assert!(matches!(take(&changes), Change::Carry(InterfaceId(1), _)));
    assert!(!other.catch_up(), "it has not answered");
    changes.answered.push(Answer::Done).unwrap();
    assert!(other.catch_up() && !stuck.catch_up());
}

/// What a worker is asked, for as long as somebody listens.
fn name(change: &Change) -> &'static str {
    match change {
        Change::Carry(..) => "carry",
        Change::Room(_) => "room",
        _ => "something else",
    }
}

#[test]
fn whoever_waits_for_workers_keeps_nobody_from_telling_them_what_changed() {
    let mut both = [handle(), handle()];
    both[1].id = 1;
    both.iter_mut().for_each(|worker| worker.patience = Duration::from_secs(6000));
    let [stuck, other] = [both[0].changes.clone(), both[1].changes.clone()];
    let workers = Mutex::new(Vec::from(both));
    let lowers = Lowers::itself(10, "eth0".into());
    let mut turns = 0;
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| {
            // It has its question and what changed meanwhile before the other one has answered.
            for expected in ["room", "carry"] {
                assert_eq!(name(&take(&other)), expected);
                other.answered.push(Answer::Done).unwrap();
            }
            // The other one took its question long ago; what changed comes next, whoever asks what.
            assert_eq!(name(&take(&stuck)), "room");
            stuck.answered.push(Answer::Refused(PortError::TooMany)).unwrap();
            assert_eq!(name(&take(&stuck)), "carry");
            stuck.answered.push(Answer::Done).unwrap();
        });
        ask_all(
            &workers,
            |_| Some(Question::room(8)),
            || {
                turns += 1;
                if turns == 1 {
                    let mut workers = workers.try_lock().expect("nobody holds the workers while others are waited for");
                    workers.iter_mut().for_each(|worker| worker.carry(InterfaceId(1), lowers.clone()));
                }
            },
        )
    });
    assert!(turns > 0);
    assert!(matches!(answers[..], [(0, Err(AttachError::Port(PortError::TooMany))), (1, Ok(()))]), "{answers:?}");
    let knows = |worker: &mut WorkerHandle| worker.catch_up();
    assert!(workers.lock().unwrap().iter_mut().all(knows));
}

#[test]
fn what_is_said_of_a_silent_worker_is_how_long_it_has_been_so() {
    let told = |waited| AttachError::Silent { worker: 3, waited: Duration::from_millis(waited) }.to_string();
    assert_eq!(told(50), "worker 3 has not answered for 0.1 s; it is asked again");
    assert_eq!(told(5_020), "worker 3 has not answered for 5.0 s; it is stuck, or gets no CPU");
    let mut handle = handle();
    handle.stop();
    while handle.is_running() {
        std::thread::yield_now();
    }
    assert_eq!(handle.has_room(1).unwrap_err().to_string(), "worker 0 has ended");
}

#[test]
fn workers_that_do_not_answer_are_waited_for_together_and_what_they_were_asked_is_withdrawn() {
    let mut all = vec![handle(), handle(), handle()];
    for (id, worker) in (0..).zip(&mut all) {
        (worker.id, worker.patience) = (id, Duration::from_millis(if id == 2 { 6_000_000 } else { 100 }));
    }
    let there = all[2].changes.clone();
    let workers = Mutex::new(all);
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(name(&take(&there)), "room");
            there.answered.push(Answer::Done).unwrap();
        });
        ask_all(&workers, |worker| (worker.id != 1).then(|| Question::room(8)), || ())
    });
    assert!(matches!(answers[..], [(0, Err(AttachError::Silent { worker: 0, .. })), (2, Ok(()))]), "{answers:?}");
    let workers = workers.into_inner().unwrap();
    assert!(workers[0].changes.asked.is_empty() && workers[1].changes.asked.is_empty());
}
