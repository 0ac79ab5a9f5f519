-- Bound: 1. incarnation, 2. source, 3. transport, 4. stream, 5. epoch.
update ops.streams
set incarnation = ?
where source_system = ? and transport = ? and stream = ? and epoch = ? and incarnation = ''
