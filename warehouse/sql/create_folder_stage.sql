create or replace stage raw.lake
    url = $lake_url
    comment = 'The lake, as the loader sees it'
