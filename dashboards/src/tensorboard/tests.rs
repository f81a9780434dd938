use super::*;

/// Splits a file into its records and checks each checksum.
fn records(mut file: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !file.is_empty() {
        let (length, rest) = file.split_at(8);
        let (length_sum, rest) = rest.split_at(4);
        assert_eq!(length_sum, record::checksum(length).to_le_bytes());
        let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
        let (data, rest) = rest.split_at(length);
        let (data_sum, rest) = rest.split_at(4);
        assert_eq!(data_sum, record::checksum(data).to_le_bytes());
        events.push(Event::decode(data).unwrap());
        file = rest;
    }
    events
}

fn point(name: &str, step: u64, value: f64) -> Point {
    Point { name: name.to_owned(), step, value }
}

/// CRC-32C of RFC 3720, B.4, before the mask.
#[test]
fn checksums_are_masked_crc_32c() {
    let check = |data: &[u8], plain: u32| {
        let masked = record::checksum(data);
        assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), plain, "{data:?}");
    };
    check(&[0; 32], 0x8a91_36aa);
    check(&[0xff; 32], 0x62a8_ab43);
    check(&(0..32).collect::<Vec<u8>>(), 0x46dd_794e);
    check(b"123456789", 0xe306_9283);
}

/// How every event file of TensorFlow begins: a record of 24 bytes.
#[test]
fn a_record_is_framed_as_tensorflow_does() {
    let mut file = Vec::new();
    record::append(&mut file, &[7; 24]);
    assert_eq!(file[..12], *b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"");
    assert_eq!(file.len(), 12 + 24 + 4);
}

#[test]
fn a_trial_is_told_in_the_order_of_time() {
    let points = [
        point("val_top1", 1, 0.5),
        point("val_top1", 2, 0.75),
        point("epoch_seconds", 1, 10.0),
        point("epoch_seconds", 2, 30.0),
        point("step_loss", 50, 2.0),
        point("step_loss", 100, 1.0),
        point("step_loss", 200, 0.0),
        point("of another version", 1, 1.0),
    ];
    let file = write(1_700_000_000_500, &points);
    let mut turned = points.to_vec();
    turned.reverse();
    assert_eq!(file, write(1_700_000_000_500, &turned), "the same points give the same bytes");
    let events = records(&file);
    assert_eq!(events[0].what, Some(event::What::FileVersion("brain.Event:2".to_owned())));
    assert_eq!(events[0].wall_time, 1_700_000_000.5);
    let told: Vec<(String, i64, f32, f64)> = events[1..]
        .iter()
        .map(|event| {
            let Some(event::What::Summary(summary)) = &event.what else { panic!("{event:?}") };
            let [value] = &summary.value[..] else { panic!("{summary:?}") };
            let Some(summary::value::Value::SimpleValue(number)) = value.value else { panic!("{value:?}") };
            (value.tag.clone(), event.step, number, event.wall_time - 1_700_000_000.5)
        })
        .collect();
    let expected = [
        ("step/step_loss", 50, 2.0, 5.0),
        ("epoch/val_top1", 1, 0.5, 10.0),
        ("epoch/epoch_seconds", 1, 10.0, 10.0),
        ("step/step_loss", 100, 1.0, 10.0),
        ("epoch/val_top1", 2, 0.75, 40.0),
        ("epoch/epoch_seconds", 2, 30.0, 40.0),
        ("step/step_loss", 200, 0.0, 40.0),
    ];
    assert_eq!(told, expected.map(|(tag, step, value, time)| (tag.to_owned(), step, value, time)));
}

#[test]
fn a_tag_is_described_once() {
    let events = records(&write(0, &[point("val_top1", 1, 0.5), point("val_top1", 2, 0.75)]));
    let described: Vec<Option<String>> = events[1..]
        .iter()
        .map(|event| {
            let Some(event::What::Summary(summary)) = &event.what else { panic!("{event:?}") };
            summary.value[0].metadata.as_ref().map(|metadata| metadata.summary_description.clone())
        })
        .collect();
    assert!(described[0].as_ref().unwrap().ends_with("(fraction)"), "{described:?}");
    assert_eq!(described[1], None);
}

#[test]
fn a_trial_without_points_is_a_file_without_scalars() {
    assert_eq!(records(&write(0, &[])).len(), 1);
    assert_eq!(file_name(1_700_000_000_999), "events.out.tfevents.1700000000.alpharho");
}
