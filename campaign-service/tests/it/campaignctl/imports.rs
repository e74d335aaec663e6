//! Imports: files as people have them, and a service that stops in between.

use super::{Ctl, DONE, IN_PART, UNAVAILABLE, USAGE, csv, exists, finished};
use crate::support::processes::serve;
use crate::support::{Clients, Service, TestDb, eventually, phone};
use campaign_proto::v1;
use campaign_testkit::free_port;
use std::process::Stdio;

#[tokio::test]
async fn rows_come_in_as_people_have_them() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring").await;
    let excel = "\u{feff}Full Name;Mobile;Time Zone;Company\r\n\
        \"Lovelace; Ada\";(201) 555-0100;America/Denver;Acme\r\n\r\n;201.555.0101;;\r\n";
    let file = ctl.file("excel.csv", excel);
    let import = ["import", "Spring", &file, "--default-region", "US"];
    let refused = ctl.refused(&import, USAGE).await;
    assert!(refused.contains("phone_number") && refused.contains("--delimiter"), "{refused}");
    let import = [&import[..], &["--delimiter", ";", "--column", "phone_number=Mobile"]].concat();
    let refused = ctl.refused(&import, USAGE).await;
    assert!(refused.contains("Company") && refused.contains("--other-columns"), "{refused}");
    let import = [&import[..], &["--other-columns", "attributes"]].concat();
    let done = ctl.run(&import).await;
    assert_eq!(done.code, DONE, "{done:?}");
    let contacts = ctl.json(&["contacts", "list", "Spring"]).await;
    let contacts = contacts["contacts"].as_array().unwrap();
    let contact = contacts.iter().find(|one| one["phoneNumber"] == "+12015550100").unwrap();
    assert_eq!(contact["displayName"], "Lovelace; Ada", "{contact}");
    assert_eq!(contact["attributes"]["Company"], "Acme", "{contact}");

    let lines = format!(
        "{{\"phoneNumber\": \"{}\", \"priority\": 2}}\n\nnot JSON\n{{\"phone\": \"1\"}}\n",
        phone(2)
    );
    let import = ["contacts", "import", &name, "-", "--format", "ndjson", "-o", "json"];
    let done = ctl.run_with(&import, &lines).await;
    assert_eq!(done.code, IN_PART, "{done:?}");
    let import: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&import["created"], &import["rejected"]), (&"1".into(), &"2".into()));
    let problems = import["problems"].as_array().unwrap();
    assert_eq!(problems[0]["row"], "2");
    assert!(problems[1]["reason"].as_str().unwrap().contains("unknown field `phone`"), "{import}");
    let id = import["name"].as_str().unwrap().rsplit('/').next().unwrap();
    let stand = ctl.text(&["contacts", "get-import", "Spring", id]).await;
    assert!(stand.contains("3 rows: 1 created") && stand.contains("phone_number"), "{stand}");

    let endless = format!("phone_number\n\"{}", "x".repeat(3 * 1024 * 1024));
    let endless = ctl.run_with(&["import", "Spring", "-"], &endless).await;
    assert_eq!(endless.code, USAGE, "{endless:?}");
    assert!(endless.err.contains("quote that is never closed"), "{endless:?}");
}

/// The errors file has all rows, although one answer of the service has at most 1,000.
#[tokio::test]
async fn every_row_that_was_not_taken_is_in_the_file() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    ctl.create("Spring").await;
    let rows: String = (0..2_500).map(|n| format!("n/a,{n}\n")).collect();
    let file = ctl.file("bad.csv", &format!("phone_number,priority\n{rows}"));
    let errors = ctl.path("errors.csv");
    let done = ctl.run(&["import", "Spring", &file, "--errors", &errors]).await;
    assert_eq!(done.code, IN_PART, "{done:?}");
    let told = std::fs::read_to_string(&errors).unwrap();
    let rows: Vec<&str> =
        told.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    let wanted: Vec<String> = (2..=2_501).map(|line: i32| line.to_string()).collect();
    assert_eq!(rows, wanted);
    // Without a file, the command shows some rows and the number of the others.
    let again = ctl.run(&["import", "Spring", &file]).await;
    assert!(again.err.contains("goes on at row 2,501"), "{again:?}");
    assert!(again.out.contains("and 2490 more; --errors FILE"), "{again:?}");
}

/// The errors file of a spreadsheet's file is corrected and imported again, and so is that of a pipe.
#[tokio::test]
async fn the_errors_file_is_corrected_and_imported_again() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring").await;
    let excel = format!(
        "\u{feff}Name;Phone;Company\r\n\"Ada\nLovelace\";{};Acme\r\n\r\nZoë;n/a;\"A; B\"\r\nBob;12;C\r\n",
        phone(0)
    );
    let import = ["--delimiter", ";", "--other-columns", "attributes", "--errors"];
    let errors = ctl.path("errors.csv");
    let import = async |file: &str, errors: &str| {
        ctl.run(&[&["import", "Spring", file], &import[..], &[errors]].concat()).await
    };
    let first = import(&ctl.file("excel.csv", &excel), &errors).await;
    assert_eq!(first.code, IN_PART, "{first:?}");
    assert!(first.err.contains("correct the rows in") && first.err.contains(&errors), "{first:?}");
    let told = std::fs::read_to_string(&errors).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "\u{feff}line;field;reason;Name;Phone;Company", "{told}");
    // The name of two lines counts as one, and the empty line counts.
    assert!(lines[1].starts_with("4;phone_number;"), "{told}");
    assert!(lines[1].ends_with(";Zoë;n/a;\"A; B\""), "{told}");
    assert!(lines[2].starts_with("5;phone_number;"), "{told}");

    // One row is corrected. The next errors file has the other, and its three columns only once.
    std::fs::write(&errors, told.replace("n/a", &phone(1))).unwrap();
    let overwritten = import(&errors, &errors).await;
    assert_eq!(overwritten.code, USAGE, "{overwritten:?}");
    assert!(overwritten.err.contains("would overwrite"), "{overwritten:?}");
    let rest = ctl.path("rest.csv");
    let second = import(&errors, &rest).await;
    assert!(second.out.contains("2 rows: 1 created, 0 duplicates, 1 rejected"), "{second:?}");
    let told = std::fs::read_to_string(&rest).unwrap();
    assert_eq!(told.lines().next().unwrap(), lines[0], "{told}");
    assert!(told.lines().nth(1).unwrap().starts_with("3;phone_number;"), "{told}");
    assert!(told.lines().nth(1).unwrap().ends_with(";Bob;12;C"), "{told}");
    let contacts = ctl.json(&["contacts", "list", "Spring"]).await;
    let zoe = &contacts["contacts"][1];
    assert_eq!(zoe["attributes"], serde_json::json!({ "Company": "A; B" }), "{contacts}");

    let lines = format!("{{\"phoneNumber\": \"{}\"}}\n\n{{\"phoneNumber\": \"13\"}}\n", phone(2));
    let errors = ctl.path("errors.ndjson");
    let piped = ["import", "Spring", "-", "--format", "ndjson", "--errors", &errors];
    let piped = ctl.run_with(&piped, &lines).await;
    assert_eq!(piped.code, IN_PART, "{piped:?}");
    let told = std::fs::read_to_string(&errors).unwrap();
    assert!(told.starts_with("{\"line\": 3, \"field\": \"phone_number\", "), "{told}");
    std::fs::write(&errors, told.replace("\"13\"", &format!("\"{}\"", phone(3)))).unwrap();
    assert_eq!(ctl.run(&["import", "Spring", &errors]).await.code, DONE);
    assert_eq!(clients.campaign(&name).await.contact_count, 4);
}

#[tokio::test]
async fn delimiters_are_given_as_shells_can() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    ctl.create("Spring").await;
    for (n, (delimiter, between)) in
        [("\\t", "\t"), ("tab", "\t"), (";", ";"), ("|", "|")].into_iter().enumerate()
    {
        let text = format!("phone{between}name\n{}{between}Ada, L.\n", phone(n));
        let file = ctl.file("contacts.csv", &text);
        let done = ctl.json(&["import", "Spring", &file, "--delimiter", delimiter]).await;
        assert_eq!(done["created"], "1", "{delimiter}");
    }
    let wrong = ["import", "Spring", "contacts.csv", "--delimiter", "::"];
    let wrong = ctl.refused(&wrong, USAGE).await;
    assert!(wrong.contains("one ASCII character"), "{wrong}");
}

async fn wait_for_row(clients: &mut Clients, name: &str, least: i64) -> i64 {
    eventually(&format!("row {least} is committed"), || {
        let (mut clients, name) = (clients.clone(), name.to_owned());
        async move {
            let request = v1::GetImportRequest { name, problems_after_row: i64::MAX };
            let import = clients.contacts.get_import(request).await.ok()?.into_inner();
            (import.next_row > least).then_some(import.next_row)
        }
    })
    .await
}

/// The service is killed during an import. The import waits for it, or is run again; no row is lost or doubled.
#[tokio::test]
async fn an_import_goes_on_after_the_service_was_killed() {
    const ROWS: usize = 60_000;
    const NUMBERS: usize = 2_000;
    let (db, port) = (TestDb::new().await, free_port());
    let url = format!("http://127.0.0.1:{port}");
    let mut service = serve(&db.url, port, 60);
    let mut clients = Clients::connect(&url).await;
    let ctl = Ctl::new(&url);
    let name = ctl.create("Spring").await;
    let file = ctl.file("contacts.csv", &csv((0..ROWS).map(|n| n % NUMBERS)));
    let import_name = format!("{name}/imports/one");
    let args = ["import", &name, &file, "--import-id", "one"];
    let start = |more: &[&str]| {
        let mut command = ctl.command(&[&args[..], more].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };

    // The first run gives up at once, and says how to resume.
    let child = start(&["--give-up-seconds", "0"]);
    let first = wait_for_row(&mut clients, &import_name, 1).await;
    service.kill();
    let ran = finished(child).await;
    assert_eq!(ran.code, UNAVAILABLE, "{ran:?}");
    assert!(ran.err.contains("run the same command again"), "{ran:?}");

    // The second run resumes, and waits while the service is away.
    service = serve(&db.url, port, 60);
    let mut clients = Clients::connect(&url).await;
    let child = start(&[]);
    let second = wait_for_row(&mut clients, &import_name, first).await;
    service.kill();
    assert!(usize::try_from(second).unwrap() <= ROWS, "it was killed in the midst of it");
    let _service = serve(&db.url, port, 60);
    let ran = finished(child).await;
    assert_eq!(ran.code, DONE, "{ran:?}");
    assert!(ran.err.contains("goes on at row") && ran.err.contains("broke off"), "{ran:?}");
    assert!(ran.out.contains("60,000 rows: 2,000 created, 58,000 duplicates"), "{ran:?}");

    // A further run has nothing left to do.
    let ran = ctl.run(&args).await;
    assert!(ran.code == DONE && ran.err.contains("row 60,001"), "{ran:?}");
    assert!(ran.out.contains("60,000 rows: 2,000 created"), "{ran:?}");
    assert!(!exists(&ctl.path("errors.csv")));
}

#[tokio::test]
async fn the_same_file_is_the_same_import_and_a_changed_one_is_not() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    ctl.create("Spring").await;
    let file = ctl.file("contacts.csv", &csv(0..5));
    let import = ["import", "Spring", &file];
    let first = ctl.json(&import).await;
    let again = ctl.json(&import).await;
    assert_eq!(first, again);
    assert_eq!(first["created"], "5");
    ctl.file("contacts.csv", &csv(0..7));
    let changed = ctl.json(&import).await;
    assert_ne!(first["name"], changed["name"]);
    assert_eq!((&changed["created"], &changed["duplicates"]), (&"2".into(), &"5".into()));
    // Read in another way it is another import, too.
    let other = ctl.json(&[&import[..], &["--default-region", "US"]].concat()).await;
    assert_ne!(other["name"], changed["name"]);
}

/// B13: nothing is lost silently.
#[tokio::test]
async fn files_that_would_lose_rows_are_refused_before_any_is_sent() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring").await;
    let rows: String = (2..80).map(|n| format!("{},x{n}\n", phone(n))).collect();
    for (file, content, wanted) in [
        ("open.csv", format!("phone,name\n{},\"abc\n{rows}", phone(0)), "line 2"),
        (
            "late.csv",
            format!("phone,name\n{},\"abc\n{rows}{},\"d\"\n", phone(0), phone(1)),
            "line 2",
        ),
        ("twice.csv", format!("phone,note,note\n{},a,b\n", phone(0)), "note"),
        (
            "phones.csv",
            format!("phone,phone_number\n{},{}\n", phone(0), phone(1)),
            "the columns \"phone\" and \"phone_number\" could both be phone_number",
        ),
        (
            "array.json",
            format!(
                "[{{\"phone_number\": \"{}\"}},\n{{\"phone_number\": \"{}\"}}]",
                phone(0),
                phone(1)
            ),
            "jq",
        ),
        (
            "pretty.json",
            format!("{{\n\"phone_number\": \"{}\"\n}}\n", phone(0)),
            "one JSON object a line",
        ),
    ] {
        let path = ctl.file(file, &content);
        let refused = ctl.refused(&["import", "Spring", &path], USAGE).await;
        assert!(refused.contains(wanted), "{file}: {refused}");
        assert_eq!(clients.campaign(&name).await.contact_count, 0, "{file}");
    }
    // Standard input is read only once. Rows before the open quote are imported; the loss of the others is reported.
    let input = format!("phone,name\n{},a\n{},\"abc\n{rows}", phone(0), phone(1));
    let piped = ctl.run_with(&["import", "Spring", "-"], &input).await;
    assert_eq!(piped.code, USAGE, "{piped:?}");
    assert!(piped.err.contains("line 3"), "{piped:?}");
}

/// B13: the list under a chosen import ID is compared with the list before, and a repeated list is reported.
#[tokio::test]
async fn a_chosen_import_id_is_one_lists() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring").await;
    let first = ctl.file("first.csv", &csv(0..20));
    let second = ctl.file("second.csv", &csv(20..40));
    let import =
        async |file: &str| ctl.run(&["import", "Spring", file, "--import-id", "spring"]).await;
    assert_eq!(import(&first).await.code, DONE);
    let other = import(&second).await;
    assert_eq!(other.code, USAGE, "{other:?}");
    assert!(other.err.contains("import_id"), "{other:?}");
    // The import of the same list again says that it did nothing.
    let mut clients = service.clients.clone();
    let request = v1::DeleteContactRequest { name: format!("{name}/contacts/3") };
    clients.contacts.delete_contact(request).await.unwrap();
    for again in [import(&first).await, ctl.run(&["import", "Spring", &first]).await] {
        assert_eq!(again.code, DONE, "{again:?}");
    }
    let again = import(&first).await;
    assert!(again.out.contains("imported before"), "{again:?}");
}
