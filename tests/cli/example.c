/* SPDX-License-Identifier: MIT */
/* A user of the installed library: the loop that sluice.h shows.  Arguments: container, prompt. */
#include <sluice.h>
#include <stdio.h>
#include <string.h>

static int tell(sluice_engine *engine, sluice_session *session, const char *prompt,
                struct sluice_err *err)
{
    const struct sluice_sampling greedy = {.temperature = 0, .top_p = 1};
    sluice_detokenizer *text = NULL;
    int32_t *tokens, token;
    const char *piece;
    size_t len;
    int64_t n = sluice_tokenize(engine, prompt, strlen(prompt), SLUICE_ADD_BOS, &tokens, err);
    if (n < 0)
        return (int)n;
    int status = sluice_session_sync(session, tokens, (size_t)n, NULL, err);
    sluice_tokens_free(tokens);
    if (status == 0)
        status = sluice_detokenizer_open(&text, engine, err);
    for (int i = 0; status == 0 && i < 12; i++) {
        if ((token = sluice_session_sample(session, &greedy, err)) < 0)
            status = token;
        else if ((status = sluice_session_step(session, token, err)) == 0) {
            sluice_detokenizer_push(text, token, &piece, &len);
            fwrite(piece, 1, len, stdout);
        }
    }
    sluice_detokenizer_close(&text);
    printf("\n");
    return status;
}

int main(int argc, char **argv)
{
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    sluice_session *session = NULL;
    int status = argc == 3 ? 0 : SLUICE_EARG;
    if (status == 0)
        status = sluice_engine_open(&engine, argv[1], NULL, &err);
    if (status == 0)
        status = sluice_session_open(&session, engine, NULL, &err);
    if (status == 0)
        status = tell(engine, session, argv[2], &err);
    if (status < 0)
        fprintf(stderr, "%s\n", err.msg);
    sluice_session_close(&session);
    sluice_engine_close(&engine);
    return status < 0;
}
