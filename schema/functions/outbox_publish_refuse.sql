-- The error for what tide.outbox_publish does not take, apart from the path
-- of those it takes. Raises always. No lock.
create or replace function tide.outbox_publish_refuse(
    outbox  text,
    stream  text,
    payload jsonb,
    headers jsonb,
    key     text,
    op      text
) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    code    text := '22023';
    problem text;
    advice  text;
begin
    if outbox is null or not exists (select from tide.outbox o where o.name = outbox_publish_refuse.outbox) then
        perform tide.refuse_unknown('outbox', outbox, array(select o.name from tide.outbox o));
    end if;
    if stream like '{%' or stream like '[%' then
        problem := format('stream %s looks like a payload', left(stream, 60));
        advice := 'Cast the payload so that the short form is meant: tide.outbox_publish(''' || outbox || ''', ''…''::jsonb, ''…''::jsonb); or give the stream as second argument.';
    elsif stream = '' then
        problem := 'stream is empty';
        advice := 'Give the kind of thing that the event is about, or null for the outbox''s name.';
    elsif length(stream) > 255 then
        problem := format('stream "%s…" has %s characters, and 255 are the most', left(stream, 40), length(stream));
        advice := 'Choose a shorter stream.';
    elsif key = '' then
        problem := 'key is empty';
        advice := 'Give null when no order is asked for.';
    elsif length(key) > 1024 then
        problem := format('key "%s…" has %s characters, and 1024 are the most', left(key, 40), length(key));
        advice := 'Choose a shorter key, for instance a hash of this one.';
    elsif jsonb_typeof(headers) <> 'object' then
        problem := format('headers %s are of type %s', left(headers::text, 60), jsonb_typeof(headers));
        advice := 'Headers are a JSON object, for instance ''{"trace": "abc"}''.';
    elsif op <> 'insert' and op !~ '^[A-Za-z0-9_.-]{1,64}$' then
        problem := format('op "%s" is not a token', left(op, 80));
        advice := 'Use insert, update, delete or a word of your own of up to 64 letters, digits, dots, hyphens and underscores.';
    elsif payload is null then
        code := '22004';
        problem := 'payload is null';
        advice := 'An event without content has the payload ''{}'' or ''null''::jsonb.';
    else
        raise exception using
            errcode = '55000',
            message = format('outbox "%s" is disabled', outbox),
            hint = format('Enable it with: select tide.outbox_enable(%L);', outbox);
    end if;
    raise exception using
        errcode = code,
        message = format('cannot publish to outbox "%s": %s', outbox, problem),
        hint = advice;
end
$$;
comment on function tide.outbox_publish_refuse(text, text, jsonb, jsonb, text, text) is
'Raises the error for what tide.outbox_publish does not take.';
