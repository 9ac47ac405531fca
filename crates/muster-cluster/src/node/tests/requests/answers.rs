//! Who is asked, and what comes back.

use super::*;

#[test]
fn a_node_is_asked_by_name_by_role_in_turn_and_by_key() {
    let mut net = Net::new();
    net.ask("node data-2", 7);
    assert_eq!(net.said(MANAGER), NOTHING);
    net.carry();
    assert_eq!(net.said(MANAGER), ["7: 14"]);
    assert_eq!(net.said(2), ["doubles 7 at Some(5)"]);
    for (number, whom) in [
        (8, "next proxy"),
        (9, "next proxy"),
        (10, "data"),
        (11, "data"),
    ] {
        net.ask(whom, number);
        net.carry();
        assert_eq!(net.said(MANAGER), [format!("{number}: {}", 2 * number)]);
    }
    assert_eq!((net.said(1).len(), net.said(2).len()), (2, 2));
    let key = key_of(&net, "data-2");
    net.ask(&format!("owner {key}"), 12);
    net.carry();
    assert_eq!(net.said(MANAGER), ["12: 24"]);
    assert_eq!(net.said(2), ["doubles 12 at Some(5)"]);
    let counts = net.counts(MANAGER);
    assert_eq!((counts.questions_asked, counts.questions_repeated), (6, 0));
    assert_eq!(net.counts(2).questions_handled, 4);
}

#[test]
fn a_node_may_ask_itself() {
    let mut net = Net::new();
    net.ask("manager", 7);
    let said = net.said(MANAGER);
    assert_eq!(said, ["doubles 7 at Some(5)", "7: 14"]);
    assert!(net.take().is_empty(), "nothing leaves the node");
    assert_eq!(net.0[MANAGER].node.open_requests(), 0);
}

#[test]
fn what_was_not_sent_was_not_handled() {
    let mut net = Net::new();
    net.ask("node logger-1", 1);
    net.ask("node nobody", 2);
    net.ask("next logger", 3);
    net.ask("next misspelt", 4);
    // A Zeek node, and one of a former release.
    net.0[MANAGER].up("worker-1", 20);
    let zeek = Hello {
        name: "worker-2".to_owned(),
        id: id(21).to_string(),
    };
    net.0[MANAGER].step(Input::Reach(id(21), Reach::PeerUp(Version::V1)));
    let payload = encoded(Hello::NAME, None, None, &zeek);
    net.0[MANAGER].step(Input::Message {
        from: id(21),
        payload: &payload,
    });
    net.ask("node worker-1", 5);
    net.ask("node worker-2", 6);
    net.carry();
    let said = net.said(MANAGER);
    let unable = "the node is a Zeek process, or of a release that answers no requests";
    assert_eq!(
        said,
        [
            "1: request to logger-1: nobody is there to ask",
            "2: request to nobody: nobody is there to ask",
            "3: request: nobody is there to ask",
            "Test::double is asked in pool `misspelt`, which the layout does not have",
            "4: request: nobody is there to ask",
            &format!("5: request to worker-1: {unable}"),
            &format!("6: request to worker-2: {unable}"),
        ]
    );
    assert_eq!(net.counts(MANAGER).questions_not_handled, 6);
    assert_eq!(net.counts(MANAGER).questions_asked, 0);
}

#[test]
fn a_node_without_a_handler_refuses() {
    let mut net = Net::with(&Registry::new().with::<Asker>());
    net.ask("node data-1", 1);
    net.carry();
    let said = net.said(MANAGER);
    assert_eq!(
        said,
        ["1: request to data-1: no framework of the node answers this question"]
    );
    assert_eq!(net.counts(1).questions_refused, 1);
}

#[test]
fn other_fields_are_refused_and_other_answers_are_no_answers() {
    let mut net = Net::with(&Registry::new().with::<Other<OtherDouble>>());
    net.ask("node data-1", 1);
    net.carry();
    let said = net.said(MANAGER);
    assert_eq!(
        said,
        ["1: request to data-1: the node takes this question with other fields"]
    );
    let told = net.said(1).join("\n");
    assert!(
        told.contains("framework other refused question Test::double"),
        "{told}"
    );
    let mut net = Net::with(&Registry::new().with::<Other<Spelt>>());
    net.ask("node data-1", 1);
    net.ask("first", 1);
    net.carry();
    let said = net.said(MANAGER);
    assert!(said[0].starts_with("1: request to data-1: the answer is of another type"));
    assert!(said[0].ends_with("(perhaps handled)"), "{said:?}");
    let both = said[1].matches("the answer is of another type").count();
    assert_eq!(both, 2, "it counts for no quorum: {said:?}");
}

#[test]
fn a_panic_is_told_and_costs_one_question() {
    let mut net = Net::new();
    net.ask("node data-1", 13);
    net.ask("node data-1", 14);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        [
            "13: request to data-1: its handler has panicked (perhaps handled)",
            "14: 28"
        ]
    );
    assert_eq!(net.counts(1).panics, 1);
}

#[test]
fn many_are_asked_and_who_is_missing_is_named() {
    let mut net = Net::new();
    for whom in ["pool", "all"] {
        net.ask(whom, 7);
        net.carry();
        assert_eq!(net.said(MANAGER), ["data-1 14, data-2 14"]);
    }
    net.ask("list data-2 data-2 manager logger-1", 7);
    net.carry();
    assert_eq!(
        net.said(MANAGER).last().unwrap(),
        "data-2 14, manager 14, not logger-1: nobody is there to ask"
    );
    // One dies while it is asked, and is missing from then on.
    net.ask("pool", 8);
    net.loses(MANAGER, 1);
    assert_eq!(net.said(MANAGER), NOTHING);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        ["data-2 16, not data-1: the node is gone"]
    );
    net.ask("pool", 9);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        ["data-2 18, not data-1: nobody is there to ask"]
    );
}

#[test]
fn enough_answers_end_a_request() {
    let mut net = Net::new();
    net.ask("first", 7);
    net.carry();
    assert_eq!(
        net.said(MANAGER),
        ["data-1 14, not data-2: enough others had answered before"]
    );
    let counts = net.counts(MANAGER);
    assert_eq!((counts.questions_unknown, counts.answers_late), (0, 1));
}

#[test]
fn two_frameworks_that_answer_the_same_are_named() {
    let registry = Registry::new().with::<Doubler>().with::<Other<Double>>();
    let error = Rig::with("data-1", &registry).err().unwrap();
    let text = "question `Test::double` is answered by framework `doubler`, and again by framework `other`";
    assert_eq!(error.to_string(), text);
}

#[test]
fn whoever_is_no_node_is_neither_answered_nor_heard() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    let (_, _, question) = net.take().pop().unwrap();
    net.0[1].step(Input::Message {
        from: id(77),
        payload: &question,
    });
    assert_eq!(net.said(1), NOTHING);
    assert_eq!(net.counts(1).control_events_refused, 1);
    net.hand_over(&(MANAGER, 1, question));
    let (_, _, answer) = net.take().pop().unwrap();
    net.0[MANAGER].step(Input::Message {
        from: id(77),
        payload: &answer,
    });
    // Another node has nothing to say to that either.
    net.hand_over(&(2, MANAGER, answer.clone()));
    assert_eq!(net.said(MANAGER), NOTHING);
    net.hand_over(&(1, MANAGER, answer));
    assert_eq!(net.said(MANAGER), ["7: 14"]);
}

#[test]
fn a_turn_passes_over_nodes_that_answer_nothing() {
    let mut net = Net::new();
    let hello = |name: &str, number: u8, features| {
        let hello = Hello {
            name: name.to_owned(),
            id: id(number).to_string(),
        };
        let metadata = Metadata {
            incarnation: Some(1),
            features,
            ..Metadata::default()
        };
        let mut payload = Vec::new();
        zeek::put_event(&mut payload, Hello::NAME, metadata, |out| hello.encode(out));
        payload
    };
    for (name, number, features) in [
        ("worker-1", 21, None),
        ("worker-2", 22, Some(zeek::ANSWERS_REQUESTS)),
    ] {
        let from = id(number);
        net.0[MANAGER].step(Input::Reach(from, Reach::PeerUp(Version::V1)));
        let payload = hello(name, number, features);
        let payload = payload.as_slice();
        net.0[MANAGER].step(Input::Message { from, payload });
    }
    net.take();
    for number in 1..=3 {
        net.ask("next worker", number);
    }
    let topic = format!("zeek/cluster/nodeid/{}/", id(22));
    let questions = net.0[MANAGER].published();
    assert_eq!(
        questions,
        [(); 3].map(|()| format!("Muster::question to {topic}"))
    );
}
