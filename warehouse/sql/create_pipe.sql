-- Name, properties and COPY are filled in by warehouse.snowpipe: of names of ours, quoted values and a file of this folder.
create pipe if not exists $pipe_name $properties as $copy -- noqa: PRS
