create or replace stage raw.lake
    url = $lake_url
    storage_integration = $integration
    comment = 'The lake, as the loader sees it'
