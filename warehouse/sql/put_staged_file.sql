put $source $stage_folder auto_compress = false overwrite = true -- noqa: PRS
