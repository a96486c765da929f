//! Data sets in Parquet.

use std::{collections::HashMap, fs::File, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    builder::{Float32Builder, ListBuilder, MapBuilder, StringBuilder},
    cast::AsArray,
    types::{
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
};
use arrow_schema::{DataType, Field, SchemaRef};
use arrow_select::{filter::filter_record_batch, take::take};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::{Map, Number, Value};

use super::{
    columns::{self, Columns, Reading, Said},
    named,
    verdict::{Cell, Layout, Verdict},
};
use crate::{Failure, look};

/// The columns of a file.
pub(super) type Schema = SchemaRef;

/// Rows that are held before they are written as a group.
const GROUP_BYTES: usize = 64 << 20;

/// Rows that are read from a file at a time.
const BATCH: usize = 1024;

/// Looks at a file: its columns, and how many rows it has.
pub(super) fn look(path: &Path, reading: &Reading, layout: &Layout) -> Result<(Schema, u64), Failure> {
    let builder = builder(path)?;
    let schema = builder.schema().clone();
    let found: Vec<&str> = schema.fields().iter().map(|field| &**field.name()).collect();
    columns::check(path, &found, reading, layout)?;
    for name in reading.names() {
        let field = schema.field_with_name(name).map_err(|error| named(path, error))?;
        let is_list = matches!(plain(field.data_type()), DataType::List(_) | DataType::LargeList(_));
        let fits = match &reading.columns {
            _ if reading.helpfulness.as_deref() == Some(name) => plain(field.data_type()).is_numeric(),
            Columns::Messages(_) => is_list || is_text(field.data_type()),
            Columns::Texts { .. } => is_text(field.data_type()),
        };
        if !fits {
            return Err(named(path, format!("column {name} is of type {}", field.data_type())));
        }
    }
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    Ok((schema, rows))
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Failure> {
    let file = File::open(path).map_err(|error| named(path, error))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| named(path, error))
}

/// The type of what a dictionary holds.
fn plain(of: &DataType) -> &DataType {
    if let DataType::Dictionary(_, values) = of { values } else { of }
}

fn is_text(of: &DataType) -> bool {
    matches!(plain(of), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A file that is read.
pub(super) struct Table {
    name: String,
    path: std::path::PathBuf,
    rows: u64,
    done: u64,
    reader: Option<ParquetRecordBatchReader>,
    /// What was read and not asked for yet.
    left: Option<RecordBatch>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let rows = u64::try_from(builder(path)?.metadata().file_metadata().num_rows()).unwrap_or(0);
        Ok(Table { name: look::file_name(path), path: path.to_owned(), rows, done: 0, reader: None, left: None })
    }

    /// Rows that were read.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    pub(super) fn is_read(&self) -> bool {
        self.done == self.rows
    }

    /// Passes over rows, if nothing was read before. Gives how many.
    pub(super) fn skip(&mut self, most: u64) -> Result<u64, Failure> {
        let rows = most.min(self.rows - self.done);
        self.done += rows;
        Ok(rows)
    }

    /// Reads some rows to those that were read before.
    pub(super) fn read(&mut self, most: usize, rows: &mut Rows) -> Result<(), Failure> {
        let Some(batch) = self.batch()? else {
            return Err(named(&self.path, format!("it ends after row {} of {}", self.done, self.rows)));
        };
        let taken = batch.num_rows().min(most);
        if taken < batch.num_rows() {
            self.left = Some(batch.slice(taken, batch.num_rows() - taken));
        }
        rows.batches.push(batch.slice(0, taken));
        rows.places.extend((1..=taken as u64).map(|row| format!("{}, row {}", self.name, self.done + row)));
        self.done += taken as u64;
        Ok(())
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, Failure> {
        if let Some(left) = self.left.take() {
            return Ok(Some(left));
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let offset = usize::try_from(self.done).unwrap_or(usize::MAX);
                let reader = builder(&self.path)?.with_batch_size(BATCH).with_offset(offset).build();
                none.insert(reader.map_err(|error| named(&self.path, error))?)
            }
        };
        reader.next().transpose().map_err(|error| named(&self.path, error))
    }
}

/// Rows of one or more files.
#[derive(Default)]
pub(super) struct Rows {
    batches: Vec<RecordBatch>,
    /// Where each stands, for messages.
    places: Vec<String>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What they say.
    pub(super) fn said(&self, reading: &Reading) -> Vec<Result<Said, String>> {
        let mut all = Vec::with_capacity(self.len());
        for batch in &self.batches {
            let column = |name: &str| batch.column_by_name(name).map(|column| (name.to_owned(), unpacked(column)));
            let columns: HashMap<String, Result<ArrayRef, String>> =
                reading.names().into_iter().filter_map(column).collect();
            for row in 0..batch.num_rows() {
                let get = |name: &str| match columns.get(name) {
                    Some(Ok(column)) => value(column, row).map_err(|reason| format!("{name}: {reason}")),
                    Some(Err(reason)) => Err(format!("{name}: {reason}")),
                    None => Err(format!("{name} is missing")),
                };
                all.push(reading.said(get));
            }
        }
        let placed =
            |(said, place): (Result<Said, String>, &String)| said.map_err(|reason| format!("{place}: {reason}"));
        all.into_iter().zip(&self.places).map(placed).collect()
    }
}

/// A column without its dictionary.
fn unpacked(column: &ArrayRef) -> Result<ArrayRef, String> {
    match column.as_any_dictionary_opt() {
        Some(packed) => take(packed.values(), packed.keys(), None).map_err(|error| error.to_string()),
        None => Ok(column.clone()),
    }
}

/// A value as JSON. What is null in a structure is left out of it: its fields are there in every row.
fn value(array: &dyn Array, row: usize) -> Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => number(array.as_primitive::<Float32Type>().value(row).into())?,
        DataType::Float64 => number(array.as_primitive::<Float64Type>().value(row))?,
        DataType::List(_) => list(&*array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&*array.as_list::<i64>().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(columns) {
                let value = value(column, row).map_err(|reason| format!("{}: {reason}", field.name()))?;
                if !value.is_null() {
                    object.insert(field.name().clone(), value);
                }
            }
            Value::Object(object)
        }
        DataType::Dictionary(..) => return value(&unpacked(&array.slice(row, 1))?, 0),
        other => return Err(format!("a value of type {other} cannot be judged")),
    })
}

fn number(value: f64) -> Result<Value, String> {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| format!("{value} is not a finite number"))
}

fn list(items: &dyn Array) -> Result<Value, String> {
    (0..items.len()).map(|row| value(items, row)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// A file that is being written.
pub(super) struct Writer {
    schema: SchemaRef,
    to: ArrowWriter<File>,
}

impl Writer {
    /// A file with the columns of the input and those of the verdict.
    pub(super) fn new(file: File, input: Option<&Schema>, layout: &Layout) -> Result<Self, String> {
        let input = input.ok_or("the input has no columns")?;
        let cells = layout.cells(&Err(String::new()));
        let columns = columns(vec![cells])?;
        let fields = layout.names().into_iter().zip(&columns);
        let fields = fields.map(|(name, column)| Arc::new(Field::new(name, column.data_type().clone(), true)));
        let all: Vec<_> = input.fields().iter().cloned().chain(fields).collect();
        let schema = Arc::new(arrow_schema::Schema::new_with_metadata(all, input.metadata().clone()));
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let to = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|error| error.to_string())?;
        Ok(Writer { schema, to })
    }

    /// Writes the rows that are kept.
    pub(super) fn write(
        &mut self,
        rows: &Rows,
        verdicts: &[Result<Verdict, String>],
        kept: &[bool],
        layout: &Layout,
    ) -> Result<(), String> {
        let mut first = 0;
        for batch in &rows.batches {
            let range = first..first + batch.num_rows();
            first = range.end;
            let cells = verdicts[range.clone()].iter().map(|verdict| layout.cells(verdict)).collect();
            let all = batch.columns().iter().cloned().chain(columns(cells)?).collect();
            let joined = RecordBatch::try_new(self.schema.clone(), all).map_err(|error| error.to_string())?;
            let kept = BooleanArray::from(kept[range].to_vec());
            let joined = filter_record_batch(&joined, &kept).map_err(|error| error.to_string())?;
            self.to.write(&joined).map_err(|error| error.to_string())?;
            if self.to.in_progress_size() > GROUP_BYTES {
                self.to.flush().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Writes what is left, and gives the file.
    pub(super) fn finish(self) -> Result<File, String> {
        self.to.into_inner().map_err(|error| error.to_string())
    }
}

/// Rows of cells as columns.
fn columns(rows: Vec<Vec<Cell>>) -> Result<Vec<ArrayRef>, String> {
    let mut columns: Vec<Vec<Cell>> = Vec::new();
    for row in rows {
        columns.resize_with(row.len(), Vec::new);
        columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
    }
    columns.into_iter().map(|cells| column(&cells)).collect()
}

/// The values of cells that are all of one kind.
macro_rules! values {
    ($cells:ident, $kind:ident) => {
        $cells.iter().map(|cell| if let Cell::$kind(value) = cell { value.as_ref() } else { None })
    };
}

fn column(cells: &[Cell]) -> Result<ArrayRef, String> {
    Ok(match cells.first() {
        Some(Cell::Text(_)) => Arc::new(values!(cells, Text).collect::<StringArray>()),
        Some(Cell::Bool(_)) => Arc::new(values!(cells, Bool).map(Option::<&_>::copied).collect::<BooleanArray>()),
        Some(Cell::Int(_)) => Arc::new(values!(cells, Int).map(Option::<&_>::copied).collect::<Int64Array>()),
        Some(Cell::Float(_)) => Arc::new(values!(cells, Float).map(Option::<&_>::copied).collect::<Float32Array>()),
        Some(Cell::Double(_)) => Arc::new(values!(cells, Double).map(Option::<&_>::copied).collect::<Float64Array>()),
        Some(Cell::Texts(_)) => {
            let mut list = ListBuilder::new(StringBuilder::new());
            for value in values!(cells, Texts) {
                value.into_iter().flatten().for_each(|text| list.values().append_value(text));
                list.append(value.is_some());
            }
            Arc::new(list.finish())
        }
        Some(Cell::Floats(_)) => {
            let mut map = MapBuilder::new(None, StringBuilder::new(), Float32Builder::new());
            for value in values!(cells, Floats) {
                for (name, number) in value.into_iter().flatten() {
                    map.keys().append_value(name);
                    map.values().append_value(*number);
                }
                map.append(value.is_some()).map_err(|error| error.to_string())?;
            }
            Arc::new(map.finish())
        }
        None => return Err("there is no row".to_owned()),
    })
}
