"""From a corpus to a prepared folder: recordings inspected and converted, tables and card written."""
