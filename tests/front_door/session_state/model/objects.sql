-- What both databases have.
CREATE SCHEMA other;
GRANT USAGE ON SCHEMA other TO PUBLIC;
CREATE TABLE public.place (who text);
INSERT INTO public.place VALUES ('public');
CREATE TABLE other.place (who text);
INSERT INTO other.place VALUES ('other');
-- One table for each session: nobody waits for anybody's rows.
CREATE TABLE public.own0 (n integer);
CREATE TABLE public.own1 (n integer);
CREATE TABLE public.own2 (n integer);
CREATE TABLE public.own3 (n integer);
CREATE TABLE public.own4 (n integer);
CREATE SEQUENCE public.one;
CREATE SEQUENCE public.two;
GRANT ALL ON ALL TABLES IN SCHEMA public, other TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;

CREATE FUNCTION public.for_itself() RETURNS text LANGUAGE sql SET work_mem = '3MB'
    AS $$ SELECT current_setting('work_mem') $$;
CREATE FUNCTION public.complains(text) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN RAISE NOTICE 'complaint: %', $1; RETURN $1; END $$;
CREATE FUNCTION public.fails() RETURNS integer LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'failed' USING ERRCODE = 'P0042', HINT = 'try again'; END $$;
CREATE PROCEDURE public.until_commit() LANGUAGE plpgsql
    AS $$ BEGIN SET LOCAL work_mem = '2MB'; COMMIT; END $$;
CREATE PROCEDURE public.inside() LANGUAGE plpgsql
    AS $$ BEGIN SET LOCAL work_mem = '2MB'; END $$;

CREATE FUNCTION public.begin_anew() RETURNS void LANGUAGE sql AS $$
    DELETE FROM public.own0;
    DELETE FROM public.own1;
    DELETE FROM public.own2;
    DELETE FROM public.own3;
    DELETE FROM public.own4;
    DROP TABLE IF EXISTS public.tt0, public.tt1, public.tt2, public.tt3, public.tt4;
    DROP TABLE IF EXISTS other.tt0, other.tt1, other.tt2, other.tt3, other.tt4;
    SELECT setval('public.one', 1, false);
    SELECT setval('public.two', 100, false);
    SELECT NULL::void;
$$;
