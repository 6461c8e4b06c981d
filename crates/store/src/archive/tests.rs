use super::*;

fn message(stream_offset: u64) -> ArchivedMessage {
    ArchivedMessage {
        stream_offset,
        message_type: Some("result".to_owned()),
        schema_version: Some(1),
        message_id: Some(format!("id-{stream_offset}")),
        published_at: i64::try_from(stream_offset).ok().map(Timestamp::from_micros),
        body: stream_offset.to_le_bytes().to_vec(),
    }
}

fn written(directory: &Path, offsets: impl Iterator<Item = u64>) -> Vec<PathBuf> {
    let mut writer = ArchiveWriter::create(directory).expect("a directory");
    let messages: Vec<_> = offsets.map(message).collect();
    for some in messages.chunks(3_000) {
        writer.append(some).expect("appended");
    }
    writer.finish().expect("written")
}

fn offsets(path: &Path) -> Vec<u64> {
    let mut offsets = Vec::new();
    let count = read_archive(path, |message| -> Result<(), StoreError> {
        offsets.push(message.stream_offset);
        Ok(())
    });
    assert_eq!(count.expect("read"), offsets.len() as u64);
    offsets
}

#[test]
fn messages_come_back_as_they_were() {
    let directory = tempfile::tempdir().expect("a directory");
    let bare = ArchivedMessage {
        stream_offset: 7,
        message_type: None,
        schema_version: None,
        message_id: None,
        published_at: None,
        body: vec![0, 255, b'\''],
    };
    let messages = [message(3), bare, message(u64::MAX)];
    let mut writer = ArchiveWriter::create(&directory.path().join("it's new")).expect("made");
    writer.append(&messages).expect("appended");
    let files = writer.finish().expect("written");
    assert_eq!(files, [directory.path().join("it's new/results-00000000000000000003.parquet")]);
    let mut back = Vec::new();
    read_archive(&files[0], |message| -> Result<(), StoreError> {
        back.push(message);
        Ok(())
    })
    .expect("read");
    assert_eq!(back, messages);
}

#[test]
fn a_full_file_is_followed_by_another_and_leaves_nothing_partial() {
    let directory = tempfile::tempdir().expect("a directory");
    let end = 100 + 2 * FILE_MESSAGES_MAX as u64 + 1;
    let files = written(directory.path(), 100..end);
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    assert_eq!(names, [file_name(100), file_name(200_100), file_name(400_100)]);
    assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 3);
    assert_eq!(offsets(directory.path()), (100..end).collect::<Vec<_>>());
}

#[test]
fn large_bodies_end_a_file_early() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut writer = ArchiveWriter::create(directory.path()).expect("made");
    let large = |offset| ArchivedMessage { body: vec![1; FILE_BODY_BYTES_MAX / 4], ..message(offset) };
    writer.append(&(0..6).map(large).collect::<Vec<_>>()).expect("appended");
    assert_eq!(writer.finish().expect("written").len(), 2);
    assert_eq!(offsets(directory.path()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn overlapping_files_give_each_offset_once_and_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let gap = 5 * PAGE_MESSAGES;
    // The first has what the second lacks in its midst; the third is far behind.
    written(directory.path(), (0..20).chain(gap..gap + 20));
    written(directory.path(), 10..gap + 5);
    written(directory.path(), 9 * gap..9 * gap + 3);
    let expected: Vec<_> = (0..gap + 20).chain(9 * gap..9 * gap + 3).collect();
    assert_eq!(offsets(directory.path()), expected);
}

#[test]
fn a_shorter_export_takes_nothing_from_a_longer_one() {
    let directory = tempfile::tempdir().expect("a directory");
    written(directory.path(), 5..50);
    written(directory.path(), 5..10);
    assert_eq!(offsets(directory.path()), (5..50).collect::<Vec<_>>());
}

#[test]
fn an_interrupted_file_is_not_read() {
    let directory = tempfile::tempdir().expect("a directory");
    written(directory.path(), 0..3);
    std::fs::write(directory.path().join("results-00000000000000000003.parquet.partial"), "PAR1").expect("written");
    assert_eq!(offsets(directory.path()), [0, 1, 2]);
    assert!(written(directory.path(), std::iter::empty()).is_empty());
}

#[test]
fn what_is_no_archive_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("other.parquet");
    std::fs::write(&path, "text").expect("written");
    let error = read_archive(&path, |_| Ok::<(), StoreError>(())).expect_err("no Parquet");
    assert_eq!(error.to_string(), format!("failed to read archive {}", path.display()));
    let absent = directory.path().join("absent");
    let error = read_archive(&absent, |_| Ok::<(), StoreError>(())).expect_err("absent");
    assert_eq!(error.to_string(), format!("failed to find {}", absent.display()));
    let end = |_| Err(StoreError::Unreadable { what: "enough", found: String::new() });
    written(directory.path(), 0..3);
    let error = read_archive(&directory.path().join(file_name(0)), end).expect_err("stopped");
    assert!(matches!(error, StoreError::Unreadable { .. }));
}
